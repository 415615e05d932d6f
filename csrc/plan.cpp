#include "plan.h"

#include <algorithm>

#include "cpu.h"
#include "layout.h"

namespace fastrnn {
namespace {

// All times in microseconds, of one core of 2 or 3 GHz.
constexpr double kOperations = 1e5;  // of float32, in one
constexpr double kBytesOfL2 = 7e4, kBytesOfMemory = 5e4;
constexpr double kOfStep = 0.1;  // whatever its size
// A team is told of a call, and waited for at its end; at a barrier one after the other arrives.
constexpr double kOfTeam = 2, kOfMember = 0.3, kOfBarrier = 0.5, kOfArrival = 0.05;
// A call that takes less on one thread has nothing to gain, whatever the split.
constexpr double kWorthTeam = 20;

// Panels of units, which threads share.
Index unit_panels(const Workload& work) {
    return shift_up(ceil_div(work.size.H, work.lanes), panel_shift(work.cell.gates));
}

// A step by a thread that has so many rows and such a part of the units.
double cost_of_step(const Workload& work, Index rows, double units) {
    const Sizes& size = work.size;
    const double all_rows = static_cast<double>(size.B), own = static_cast<double>(rows);
    // Half a row more: of few rows each costs more, since what is read of the weights serves fewer.
    const double operations = step_flops(work.cell, size) / all_rows * (own + 0.5) * units;
    const double numbers = static_cast<double>(size.H) * work.cell.recurrent * static_cast<double>(units_of_h(size));
    const double bytes = numbers * units * work.weight_bytes;
    const bool near = bytes <= static_cast<double>(private_cache_bytes()) * 0.75;
    return kOfStep + std::max(operations * work.weight_bytes / (4 * kOperations), bytes / kBytesOfL2) +
           (near ? 0 : bytes / kBytesOfMemory);
}

}  // namespace

double step_flops(const CellInfo& cell, const Sizes& size) {
    const double depths = cell.recurrent * static_cast<double>(units_of_h(size)) +
                          (size.D > 0 ? 0.0 : cell.gates * static_cast<double>(size.I));
    return 2.0 * static_cast<double>(size.B) * static_cast<double>(size.H) * depths;
}

double cost(const Workload& work, const Split& split) noexcept {
    const Sizes& size = work.size;
    if (size.T * size.B * size.H == 0) return 0;
    const Index rows = ceil_div(size.B, split.batch_parts), panels = unit_panels(work);
    const double units = static_cast<double>(ceil_div(panels, split.unit_parts)) / static_cast<double>(panels);
    const double members = parts(split);
    const double barrier = split.unit_parts > 1 ? kOfBarrier + members * kOfArrival : 0;
    const double team = members > 1 ? kOfTeam + members * kOfMember : 0;
    return team + static_cast<double>(size.T) * (cost_of_step(work, rows, units) + barrier);
}

Split choose_split(const Workload& work, int threads) noexcept {
    Split best{1, 1};
    if (threads <= 1) return best;
    double least = cost(work, best);
    if (least < kWorthTeam) return best;
    // Of sequences of different lengths the first rows have more to do.
    const Index most_batch = work.size.first_row ? 1 : std::min<Index>(threads, work.size.B);
    const Index most_units = std::min<Index>(threads, unit_panels(work));
    const auto consider = [&](Index batch_parts, Index unit_parts) {
        const Split split{static_cast<int>(batch_parts), static_cast<int>(unit_parts)};
        const double time = cost(work, split);
        if (time < least) least = time, best = split;
    };
    // All numbers up to eight, and then some for each doubling: a quarter more each time.
    const auto next = [](Index n) { return n + std::max<Index>(1, n / 4); };
    for (Index batch_parts = 1; batch_parts <= most_batch; batch_parts = next(batch_parts)) {
        const Index most = std::min(most_units, threads / batch_parts);
        for (Index unit_parts = 1; unit_parts <= most; unit_parts = next(unit_parts)) consider(batch_parts, unit_parts);
        consider(batch_parts, most);
    }
    consider(most_batch, 1);
    return best;
}

}  // namespace fastrnn
