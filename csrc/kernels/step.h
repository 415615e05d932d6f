// One step from the caller's own weights: for small batches, where a step's time is that of reading the weights once,
// and packing would cost more.
#pragma once

#include "../product.h"
#include "dots.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf, class Real>
class Step {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    static constexpr Index kLanes = V::kLanes;

public:
    static Index workspace(Index H) {
        // The state before the step may be missing, and phases hand each other planes of `saved`.
        return pitch<Real>(padded<V>(H)) + kStepRows * saved_pitch(H);
    }

    static void run(const StepArgs<Real>& args, Team* team) {
        if (!team || team->rank() == 0) clear(args.workspace, args.size.H);
        if (team) team->barrier();
        for (Index b = 0; b < args.size.B; b += kStepRows)
            run_phase<0>(args, team, b, static_cast<int>(smaller(kStepRows, args.size.B - b)));
    }

private:
    // The gates whose two sums must stay apart, as bits: as the candidate's of a GRU that resets after the product.
    static constexpr unsigned apart() {
        unsigned gates = 0;
        for (int g = 0; g < Cell::kGates; ++g)
            if (Cell::kInputGradient[g] != Cell::kHiddenGradient[g]) gates |= 1u << g;
        return gates;
    }
    static Index saved_pitch(Index H) { return Cell::kPhases > 1 ? pitch<Real>(Cell::kSaved * padded<V>(H)) : 0; }

    // The units that this member of the team claims, of `rows` rows from b on.
    template <int p>
    FASTRNN_NOINLINE static void run_phase(const StepArgs<Real>& args, Team* team, Index b, int rows) {
        constexpr Phase phase = Cell::kForward[p];
        const Index H = args.size.H, I = args.size.I, Hp = padded<V>(H);
        const Real* const zeros = args.workspace;
        const Real* state[kStepRows][Cell::kStates];
        Real* saved[kStepRows];
        SumsOf<Real> sums;
        sums.apart = apart();
        sums.input.depth = I, sums.input.stride = H * I;
        sums.hidden.depth = H, sums.hidden.stride = H * H;
        for (int r = 0; r < rows; ++r) {
            for (int s = 0; s < Cell::kStates; ++s) state[r][s] = args.state[s] ? args.state[s] + (b + r) * H : zeros;
            saved[r] = args.workspace + pitch<Real>(Hp) + r * saved_pitch(H);
            sums.input.row[r] = args.x ? args.x + (b + r) * I : nullptr;
            sums.hidden.row[r] = phase.operand == kPreviousH ? state[r][kH] : saved[r] + phase.operand * Hp;
        }
        const Index blocks = ceil_div(H, kLanes);
        const Turns turns{0, blocks, false, team, blocks};
        for (Index block, taken = 0; (block = next_panel(turns, taken)) >= 0; ++taken) {
            const Index unit = block * kLanes;
            const Index n = smaller(kLanes, H - unit);
            V x[kStepRows][Cell::kGates], hidden[kStepRows][Cell::kGates];
            for (int g = phase.first; g < phase.first + phase.count; ++g) {
                const Index row = g * H + unit;
                for (int r = 0; r < rows; ++r) {
                    x[r][g] = args.b_ih ? load_part<V>(args.b_ih + row, n) : V::zero();
                    hidden[r][g] = args.b_hh ? load_part<V>(args.b_hh + row, n) : V::zero();
                    if (args.x) continue;
                    Real column[kLanes] = {};
                    for (Index i = 0; i < n; ++i) column[i] = args.w_ih[(row + i) * I + args.token[b + r]];
                    x[r][g] = x[r][g] + V::load(column);
                }
            }
            sums.input.w = args.w_ih + unit * I, sums.hidden.w = args.w_hh + unit * H, sums.n = n;
            add_sums_for<V>(rows)(sums, phase.first, phase.count, Cell::kGates, x[0], hidden[0]);
            for (int r = 0; r < rows; ++r) {
                V prev[Cell::kStates], kept[Cell::kSaved], next[Cell::kStates];
                for (int s = 0; s < Cell::kStates; ++s) prev[s] = load_part<V>(state[r][s] + unit, n);
                if constexpr (p > 0)
                    for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved[r] + s * Hp + unit);

                Cell::template forward<p>(x[r], hidden[r], prev, Own<V>{nullptr, nullptr}, kept, next);

                if constexpr (p + 1 < Cell::kPhases) {
                    for (int s = 0; s < Cell::kSaved; ++s)
                        if (writes(phase, s)) kept[s].store(saved[r] + s * Hp + unit);
                } else {
                    for (int s = 0; s < Cell::kStates; ++s)
                        store_part(next[s], args.next_state[s] + (b + r) * H + unit, n);
                }
            }
            if (team) team->poll(work_of_sums(phase.count * kLanes * rows, I + H));
        }
        // Other threads' units of `saved` are operands of the next phase, and the next rows overwrite them.
        if (team) team->barrier();
        if constexpr (p + 1 < Cell::kPhases) run_phase<p + 1>(args, team, b, rows);
    }
};

// For cells with plain weights only.
template <template <class> class CellOf, class Real>
constexpr StepCell<Real> step_cell() {
    using Cell = CellOf<Vec<Real>>;
    if constexpr (Cell::kVectors == 0 && Cell::kActivations == 0 && recurrent_gates<Cell>() == Cell::kGates &&
                  Cell::kForward[0].operand != kNothing)
        return {Step<CellOf, Real>::workspace, Step<CellOf, Real>::run};
    else
        return {};
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
