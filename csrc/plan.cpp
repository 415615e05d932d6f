#include "plan.h"

#include <algorithm>

#include "cpu.h"

namespace fastrnn {
namespace {

// Below this many operations in all - some 20 microseconds - a call is over before another thread has begun.
constexpr double kWorthThreads = 2e6;
// Unit parts meet at a barrier each step, which costs about a microsecond.
constexpr double kStepWorthBarrier = 1e5;
// Rows that keep the product's register tile busy.
constexpr Index kRowsPerThread = 8;

}  // namespace

double step_flops(const CellInfo& cell, const Sizes& size) {
    const double depths = cell.recurrent * static_cast<double>(units_of_h(size)) +
                          (size.D > 0 ? 0.0 : cell.gates * static_cast<double>(size.I));
    return 2.0 * static_cast<double>(size.B) * static_cast<double>(size.H) * depths;
}

Split choose_split(const Workload& work, int threads) {
    constexpr Split alone{1, 1};
    const Sizes& size = work.size;
    const double step = step_flops(work.cell, size);
    if (threads <= 1 || step * static_cast<double>(size.T) < kWorthThreads) return alone;

    const Index weights = work.cell.recurrent * size.H * units_of_h(size) * work.real_bytes;
    // Batch parts each read all of W_hh: it has to fit into a core's own cache, with room for the rows.
    const bool fits = weights <= static_cast<Index>(private_cache_bytes() / 4 * 3);
    // Of sequences of different lengths the first rows have more to do.
    const bool even = !size.first_row;
    if (even && size.B >= kRowsPerThread * threads && fits) return {threads, 1};

    const Index blocks = (size.H + work.lanes - 1) / work.lanes;
    const int by_units = static_cast<int>(std::min<Index>(threads, blocks));
    if (by_units > 1 && step >= kStepWorthBarrier) return {1, by_units};

    const int by_rows = static_cast<int>(std::min<Index>(threads, size.B));
    return even && by_rows > 1 ? Split{by_rows, 1} : alone;
}

}  // namespace fastrnn
