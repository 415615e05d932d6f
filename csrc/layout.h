// Arithmetic of sizes, and how arrays lie in memory, for the loop over time and the kernels alike.
//
// Functions are static: of what is compiled for one instruction set nothing may be picked for another (kernels/README).
#pragma once

#include <cstring>

#include "problem.h"

namespace fastrnn {

static constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
static constexpr Index larger(Index a, Index b) { return a > b ? a : b; }
static constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Part `part` of `parts` of [0, n).
struct Range {
    Index begin, end;
};
static constexpr Range share(Index n, Index part, Index parts) {
    // Divisions count, where a whole call takes a quarter of a microsecond.
    return parts == 1 ? Range{0, n} : Range{n * part / parts, n * (part + 1) / parts};
}

// Row length, in elements, for n used ones: whole cache lines, and an odd number of them, so that a column of
// rows does not fall into one set of the cache.
template <class Real>
static constexpr Index pitch(Index n) {
    constexpr Index line = 64 / sizeof(Real);
    return (ceil_div(n, line) | 1) * line;
}

constexpr Index kRowBlock = 48;  // rows whose sums wait in L1 for the epilogue: 48 x 4 vectors = 12 KiB of AVX-512

// Units are cut in blocks of one vector. A panel of weights holds, for each k, the vectors of all gates of one or more
// blocks of units, in the order (block, gate), so that a register tile gets everything that the cell's arithmetic
// needs.
constexpr int kMaxWidth = 4;  // vectors in a panel

// The logarithm of the blocks in a panel of so many gates: one of three or four gates, 2 of two, 4 of one.
static constexpr int panel_shift(int gates) { return gates >= 3 ? 0 : gates == 2 ? 1 : 2; }
static constexpr Index shift_up(Index a, int shift) { return (a + (Index{1} << shift) - 1) >> shift; }

// Where the gates of a block of units begin in a row of the projected input, which is (panels, rows, blocks of the
// panel, G, lanes), as a product leaves it. A panel has `blocks`, of which there are `all`; `group` is G * lanes.
static inline Index projected_offset(int blocks, int group, Index all, Index rows, Index block, Index row) {
    const Index in_panel = block & (blocks - 1), first = block - in_panel;
    const Index together = smaller(blocks, all - first);
    return (first * rows + row * together + in_panel) * group;
}

template <class Real>
static void copy(const Real* from, Index n, Real* to) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(Real));
}

template <class Real>
static void clear(Real* to, Index n) {
    std::memset(to, 0, static_cast<std::size_t>(n) * sizeof(Real));
}

// Moving a number from one place in memory to another takes about the time of so many floating-point operations: for
// Team::poll().
constexpr double kWorkOfMoving = 20;

// For Team::poll(): the operations of so many sums of so many products.
static inline double work_of_sums(Index sums, Index depth) { return 2.0 * static_cast<double>(sums * depth); }

}  // namespace fastrnn
