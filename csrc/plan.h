// How many threads a call is worth, and how they share it: the cost model.
#pragma once

#include "problem.h"

namespace fastrnn {

struct Workload {
    const CellInfo& cell;
    Sizes size;
    Index real_bytes;  // of one number
    Index lanes;       // numbers in a vector
};

// Floating-point operations of one step's products, forward; a token's projection is a copy.
double step_flops(const CellInfo& cell, const Sizes& size);

// The split for at most this many threads. Results do not depend on it, only the time that they take.
Split choose_split(const Workload& work, int threads);

inline int parts(const Split& split) { return split.batch_parts * split.unit_parts; }

}  // namespace fastrnn
