// The states and gates of every step, from a tape.
#pragma once

#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf, class Real>
void trace(const TraceArgs<Real>& args, Team& team) {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    const Sizes& size = args.size;
    const Tape<Cell, V> tape(size, const_cast<Real*>(args.tape));  // which is only read
    const Index H = size.H, Hp = padded<V>(H), steps = block_steps(size);
    for (Index t = 0; t < size.T; ++t) {
        for (Index b = 0; b < step_rows(size, t); ++b) {
            const Index row = first_row(size, t) + b;
            const Real* const saved = tape.saved + row * tape.saved_pitch;
            for (Index unit = 0; unit < H; unit += V::kLanes) {
                const Index n = smaller(V::kLanes, H - unit);
                V kept[Cell::kSaved], before[Cell::kStates], after[Cell::kStates];
                for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved + s * Hp + unit);
                for (int s = 0; s < Cell::kStates; ++s) {
                    const Real* const first = tape.state[s] + (t / steps * size.B + b) * tape.state_pitch;
                    const Real* const last = args.state[s] + (t > 0 ? first_row(size, t - 1) + b : 0) * H;
                    before[s] = load_part<V>((t % steps == 0 ? first : last) + unit, n);
                }
                V own[at_least_one(Cell::kVectors)];
                for (int v = 0; v < Cell::kVectors; ++v) own[v] = load_part<V>(tape.vectors + v * H + unit, n);
                Cell::restore(kept, before, own, after);
                for (int s = 0; s < Cell::kStates; ++s)
                    if (const Real* const keep = keep_of(args.regularisation, s, row))
                        after[s] = zoned_out(load_part<V>(keep + unit, n), before[s], after[s]);
                for (int s = 0; s < Cell::kStates; ++s) store_part(after[s], args.state[s] + row * H + unit, n);
                for (int g = 0; g < Cell::kGates; ++g)
                    if (args.gate[g]) store_part(kept[g], args.gate[g] + row * H + unit, n);
            }
        }
        team.poll(kWorkOfMoving * static_cast<double>(step_rows(size, t) * H * (Cell::kSaved + Cell::kStates)));
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
