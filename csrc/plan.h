// How many threads a call is worth, and how they share it: the cost model.
#pragma once

#include "problem.h"

namespace fastrnn {

struct Workload {
    const CellInfo& cell;
    Sizes size;
    double weight_bytes;  // of one number of packed weights
    Index lanes;          // numbers in a vector
};

// Floating-point operations of one step's products, forward; a token's projection is a copy.
double step_flops(const CellInfo& cell, const Sizes& size);

// Microseconds of a call in a team that shares it so, forward, on a core of today, by how much there is to multiply and
// to read. It need not be true of any machine: it ranks splits, and tells a call that is worth a thread from others.
double cost(const Workload& work, const Split& split) noexcept;

// The cheapest split for at most this many threads, which may be fewer. Results do not depend on it, only the time that
// they take.
Split choose_split(const Workload& work, int threads) noexcept;

inline int parts(const Split& split) { return split.batch_parts * split.unit_parts; }

}  // namespace fastrnn
