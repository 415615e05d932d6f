// One step from the caller's own weights, unpacked: for small batches, where a step's time is that of reading the
// weights once. Rows of W lie along k, so a product is a dot product along vectors, and the sums of one vector of units
// are gathered at the end.
#pragma once

#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// sum[i] += row i of w, times a, lane by lane, for n rows.
template <class V>
void accumulate_rows(const typename V::Real* w, Index n, const typename V::Real* a, Index depth, V* sum) {
    for (Index k = 0; k < depth; k += V::kLanes) {
        const Index rest = smaller(V::kLanes, depth - k);
        const V column = load_part<V>(a + k, rest);
        const typename V::Real* row = w + k;
        if (n == V::kLanes && rest == V::kLanes) {
            for (int i = 0; i < V::kLanes; ++i, row += depth) sum[i] = fma(V::load(row), column, sum[i]);
        } else {
            for (Index i = 0; i < n; ++i, row += depth) sum[i] = fma(load_part<V>(row, rest), column, sum[i]);
        }
    }
}

template <template <class> class CellOf, class Real>
class Step {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    static constexpr Index kLanes = V::kLanes;

public:
    static Index workspace_size(Index H) {
        // The state before the first step may be missing, and phases hand each other the planes of one row of `saved`.
        return pitch<Real>(padded<V>(H)) + pitch<Real>(Cell::kPhases > 1 ? Cell::kSaved * padded<V>(H) : 0);
    }

    static void run(const StepArgs<Real>& args) {
        const Index H = args.H;
        Real* const zeros = args.workspace;
        Real* const saved = zeros + pitch<Real>(padded<V>(H));
        clear(zeros, H);
        for (Index b = 0; b < args.B; ++b) {
            const Real* state[Cell::kStates];
            for (int s = 0; s < Cell::kStates; ++s) state[s] = args.state[s] ? args.state[s] + b * H : zeros;
            run_phase<0>(args, b, state, saved);
        }
    }

private:
    // Whether a gate's two sums must stay apart, as the candidate's of a GRU that resets after the product.
    static constexpr bool apart(int gate) { return Cell::kInputGradient[gate] != Cell::kHiddenGradient[gate]; }

    template <int p>
    static void run_phase(const StepArgs<Real>& args, Index b, const Real* const* state, Real* saved) {
        constexpr Phase phase = Cell::kForward[p];
        const Index H = args.H, I = args.I, Hp = padded<V>(H);
        const Real* operand = state[kH];
        if constexpr (phase.operand != kPreviousH) operand = saved + phase.operand * Hp;
        for (Index unit = 0; unit < H; unit += kLanes) {
            const Index n = smaller(kLanes, H - unit);
            V x[Cell::kGates], hidden[Cell::kGates], prev[Cell::kStates], kept[Cell::kSaved + 1], next[Cell::kStates];
            for (int g = phase.first; g < phase.first + phase.count; ++g) {
                const Index row = g * H + unit;
                V sum[kLanes];
                for (V& s : sum) s = V::zero();
                x[g] = args.b_ih ? load_part<V>(args.b_ih + row, n) : V::zero();
                hidden[g] = args.b_hh ? load_part<V>(args.b_hh + row, n) : V::zero();
                if (args.x) {
                    accumulate_rows<V>(args.w_ih + row * I, n, args.x + b * I, I, sum);
                    if (apart(g)) {
                        x[g] = x[g] + sums(sum);
                        for (V& s : sum) s = V::zero();
                    }
                } else {
                    Real column[kLanes] = {};
                    for (Index i = 0; i < n; ++i) column[i] = args.w_ih[(row + i) * I + args.token[b]];
                    x[g] = x[g] + V::load(column);
                }
                accumulate_rows<V>(args.w_hh + row * H, n, operand, H, sum);
                hidden[g] = hidden[g] + sums(sum);
            }
            for (int s = 0; s < Cell::kStates; ++s) prev[s] = load_part<V>(state[s] + unit, n);
            if constexpr (p > 0)
                for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved + s * Hp + unit);

            Cell::template forward<p>(x, hidden, prev, kept, next);

            if constexpr (p + 1 < Cell::kPhases) {
                for (int s = 0; s < Cell::kSaved; ++s)
                    if (writes(phase, s)) kept[s].store(saved + s * Hp + unit);
            } else {
                for (int s = 0; s < Cell::kStates; ++s) store_part(next[s], args.next_state[s] + b * H + unit, n);
            }
        }
        if constexpr (p + 1 < Cell::kPhases) run_phase<p + 1>(args, b, state, saved);
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
