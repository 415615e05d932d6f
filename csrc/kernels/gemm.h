// The one matrix product: packed weights times rows, a register tile at a time.
//
// Every product of the project goes through product(): the input projection, the recurrence forward and backward, dx
// and the weight gradients. They differ in where rows and weights lie and in the epilogue that consumes the sums.
// A sum always runs over k = 0, 1, 2, ... in one chain, whatever the tile, so that results do not depend on how rows
// and units were shared among threads.
#pragma once

#include "vec.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Accumulators: 24 of 32 registers leave 4 for weights and the rest for broadcasts; 12 of 16 leave 1 and 3.
constexpr int kMaxWidth = 4;
template <class V>
constexpr int max_rows(int width) {
    const int rows = (V::kRegisters == 32 ? 24 : 12) / width;
    return rows < 8 ? rows : 8;
}

template <class Real>
constexpr Index kLine = 64 / static_cast<Index>(sizeof(Real));

constexpr Index kRowBlock = 48;  // rows whose sums wait in L1 for the epilogue: 48 x 4 vectors = 12 KiB of AVX-512
template <class Real>
constexpr Index kNear = (3 << 19) / static_cast<Index>(sizeof(Real));  // weights up to 1.5 MiB are taken to be in L2
constexpr Index kPassBytes = 64 * 1024;  // of a panel, which all rows of a block pass over while it is near

// Row r of the left operand starts at base + (r / per_step) * step_stride + (r % per_step) * stride.
template <class Real>
struct Rows {
    const Real* base;
    Index stride;
    Index k_stride = 1;
    Index per_step = PTRDIFF_MAX;
    Index step_stride = 0;

    const Real* operator[](Index r) const {
        if (r < per_step) return base + r * stride;
        return base + (r / per_step) * step_stride + (r % per_step) * stride;
    }
};

// The right operand: `vectors` columns of lanes, in panels of `width` (the last may be narrower), k rows each.
template <class V>
struct Panels {
    using Real = typename V::Real;
    const Real* data;
    Index vectors;
    int width;
    Index depth;                  // k
    Index k_stride = 0;           // 0: packed, panel after panel. Else plain rows, this far apart
    const Real* start = nullptr;  // (vectors): what each column's sums start from; null is zeros

    Index count() const { return (vectors + width - 1) / width; }
    int width_of(Index panel) const {
        const Index rest = vectors - panel * width;
        return rest < width ? static_cast<int>(rest) : width;
    }
    Index offset(Index panel) const { return panel * width * V::kLanes * (k_stride ? 1 : depth); }
    Index stride_of(Index panel) const { return k_stride ? k_stride : width_of(panel) * V::kLanes; }
};

// What one register tile is made of: rows times `width` vectors of one or more panels.
template <class Real>
struct Tile {
    const Real* row[8];
    Index row_k;  // from one k to the next in a row
    const Real* panel;
    Index panel_k;       // the same in a panel
    Index panel_stride;  // from one panel to the next
    const Real* ahead;   // in the panel to come: two lines of each k are prefetched on the way
    Index depth;
    const Real* start;  // what is added to, (panel, row, width): null is zeros
    Index start_row = 0, start_panel = 0;
    Real* sums;  // (panel, row, width)
    Index sums_panel;
};

template <class V, int R, int Width, int P, bool Ahead>
void multiply(const Tile<typename V::Real>& tile) {
    using Real = typename V::Real;
    V sum[P][R][Width];
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < Width; ++v)
                sum[p][r][v] = tile.start
                                   ? V::load(tile.start + p * tile.start_panel + r * tile.start_row + v * V::kLanes)
                                   : V::zero();

    const Real* a[R];
    for (int r = 0; r < R; ++r) a[r] = tile.row[r];
    const Real *panel = tile.panel, *ahead = tile.ahead;
    const Index row_k = tile.row_k, panel_k = tile.panel_k, panel_stride = tile.panel_stride, depth = tile.depth;
    Index offset = 0;
    for (Index k = 0; k < depth; ++k, offset += row_k, panel += panel_k) {
        if constexpr (Ahead) {
            V::prefetch(ahead);
            V::prefetch(ahead + kLine<Real>);
            ahead += panel_k;
        }
        for (int p = 0; p < P; ++p) {
            const Real* const weights = panel + p * panel_stride;
            // Whichever of the two sides is the shorter stays in registers for all of the other.
            if constexpr (V::kRegisters == 32 || Width <= R) {
                V w[Width];
                for (int v = 0; v < Width; ++v) w[v] = V::load(weights + v * V::kLanes);
                for (int r = 0; r < R; ++r) {
                    const V s = V::broadcast(a[r][offset]);
                    for (int v = 0; v < Width; ++v) sum[p][r][v] = fma(s, w[v], sum[p][r][v]);
                }
            } else {
                V s[R];
                for (int r = 0; r < R; ++r) s[r] = V::broadcast(a[r][offset]);
                for (int v = 0; v < Width; ++v) {
                    const V w = V::load(weights + v * V::kLanes);
                    for (int r = 0; r < R; ++r) sum[p][r][v] = fma(s[r], w, sum[p][r][v]);
                }
            }
        }
    }
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < Width; ++v)
                sum[p][r][v].store(tile.sums + p * tile.sums_panel + (r * Width + v) * V::kLanes);
}

template <class V>
using Multiply = void (*)(const Tile<typename V::Real>&);

// The kernel for `rows` rows (1 .. max_rows) and panels of `width` vectors.
template <class V, bool Ahead, int Width, int R = max_rows<V>(Width)>
Multiply<V> multiply_rows(int rows) {
    if constexpr (R > 1) {
        if (rows < R) return multiply_rows<V, Ahead, Width, R - 1>(rows);
    }
    return multiply<V, R, Width, 1, Ahead>;
}

template <class V, bool Ahead>
Multiply<V> multiply_for(int width, int rows) {
    switch (width) {
        case 1: return multiply_rows<V, Ahead, 1>(rows);
        case 2: return multiply_rows<V, Ahead, 2>(rows);
        case 3: return multiply_rows<V, Ahead, 3>(rows);
        default: return multiply_rows<V, Ahead, 4>(rows);
    }
}

// A single row has too few sums in flight to hide the latency of an FMA: take two panels at a time.
template <class V>
Multiply<V> multiply_pair_for(int width) {
    switch (width) {
        case 1: return multiply<V, 1, 1, 2, false>;
        case 2: return multiply<V, 1, 2, 2, false>;
        case 3: return multiply<V, 1, 3, 2, false>;
        default: return multiply<V, 1, 4, 2, false>;
    }
}

// For every row of [row_begin, row_end) and panel of [panel_begin, panel_end), in no promised order:
//   epilogue(first, count, panel, width, sums)   with `width` vectors of each of rows [first, first + count).
// `sums` is place(first, panel), with room for kRowBlock rows.
// `backwards` goes through the panels from the last: a loop over time that turns round at every step finds in cache the
// panels that the step before used last.
template <class V, class Place, class Epilogue>
void product(const Rows<typename V::Real>& rows, Index row_begin, Index row_end, const Panels<V>& panels,
             Index panel_begin, Index panel_end, bool backwards, const Place& place, const Epilogue& epilogue) {
    using Real = typename V::Real;
    const bool far = (panel_end - panel_begin) * panels.width * V::kLanes * panels.depth > kNear<Real>;
    const Index to_neighbour = backwards ? -1 : 1;
    Tile<Real> tile;
    tile.row_k = rows.k_stride;
    for (Index first = row_begin; first < row_end; first += kRowBlock) {
        const Index count = row_end - first < kRowBlock ? row_end - first : kRowBlock;
        for (Index done = 0; done < panel_end - panel_begin; ++done) {
            const Index panel = backwards ? panel_end - 1 - done : panel_begin + done;
            const Index neighbour = panel + to_neighbour;
            const bool last = done + 1 == panel_end - panel_begin;
            const int width = panels.width_of(panel);
            const Index sums_row = width * V::kLanes;
            const Real* const weights = panels.data + panels.offset(panel);
            const Real* const start = panels.start ? panels.start + panel * panels.width * V::kLanes : nullptr;
            Real* const sums = place(first, panel);
            tile.panel_k = panels.stride_of(panel);

            if (count == 1 && !last && panels.width_of(neighbour) == width) {
                Real* const others = place(first, neighbour) == sums ? sums + sums_row : place(first, neighbour);
                tile.row[0] = rows[first];
                tile.panel = weights;
                tile.panel_stride = panels.offset(neighbour) - panels.offset(panel);
                tile.depth = panels.depth;
                tile.start = start;
                tile.start_panel = to_neighbour * panels.width * V::kLanes;
                tile.sums = sums;
                tile.sums_panel = others - sums;
                multiply_pair_for<V>(width)(tile);
                epilogue(first, 1, panel, width, sums);
                epilogue(first, 1, neighbour, width, others);
                ++done;
                continue;
            }

            // Tiles of nearly equal height: 16 rows are 6 + 5 + 5, not 6 + 6 + 4.
            const Index tiles = (count + max_rows<V>(width) - 1) / max_rows<V>(width);
            const Index height = count / tiles, higher = count % tiles;
            constexpr Index pass = kPassBytes / (kMaxWidth * V::kLanes * static_cast<Index>(sizeof(Real)));
            for (Index k = 0; k == 0 || k < panels.depth; k += pass) {
                tile.panel = weights + k * tile.panel_k;
                tile.depth = panels.depth - k < pass ? panels.depth - k : pass;
                const Real* const next = k + pass < panels.depth ? tile.panel + pass * tile.panel_k
                                         : last                  ? tile.panel
                                                                 : panels.data + panels.offset(neighbour);
                for (Index i = 0, at = 0; i < tiles; ++i) {
                    const int n = static_cast<int>(height + (i < higher));
                    for (int r = 0; r < n; ++r) tile.row[r] = rows[first + at + r] + k * rows.k_stride;
                    tile.sums = sums + at * sums_row;
                    tile.start = k > 0 ? tile.sums : start;
                    tile.start_row = k > 0 ? sums_row : 0;
                    tile.ahead = next + 2 * i * kLine<Real>;
                    // The first two tiles fetch a half each of the next pass's weights, if those are not in L2 anyway.
                    const bool fetch = far && i < 2;
                    const Multiply<V> kernel =
                        fetch ? multiply_for<V, true>(width, n) : multiply_for<V, false>(width, n);
                    kernel(tile);
                    at += n;
                }
            }
            epilogue(first, count, panel, width, sums);
        }
    }
}

// The same, for sums that nobody needs after the epilogue.
template <class V, class Epilogue>
void product(const Rows<typename V::Real>& rows, Index row_begin, Index row_end, const Panels<V>& panels,
             Index panel_begin, Index panel_end, bool backwards, const Epilogue& epilogue) {
    alignas(64) typename V::Real sums[kRowBlock * kMaxWidth * V::kLanes];
    const auto here = [&](Index, Index) { return sums; };
    product<V>(rows, row_begin, row_end, panels, panel_begin, panel_end, backwards, here, epilogue);
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
