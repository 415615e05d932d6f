// One step from the caller's own weights, unpacked: for small batches, where a step's time is that of reading the
// weights once. Rows of W lie along k, so a product is a dot product along vectors, and the sums of one vector of units
// are gathered at the end. So is linear(), which often follows.
#pragma once

#include "../thread_pool.h"
#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

constexpr int kStepRows = 4;  // rows of the batch that share a reading of the weights

// sums (R, lanes) += rows times N rows of w, lane by lane: all of them run along k.
template <class V, int R, int N>
FASTRNN_INLINE void accumulate_tile(const typename V::Real* const* row, const typename V::Real* const* w, Index depth,
                                    V* sums) {
    using Real = typename V::Real;
    const Real *a[R], *b[N];
    V sum[R][N];
    for (int r = 0; r < R; ++r) a[r] = row[r];
    for (int i = 0; i < N; ++i) b[i] = w[i];
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < N; ++i) sum[r][i] = sums[r * V::kLanes + i];
    Index k = 0;
    if constexpr (R == 1) {
        // Whole cache lines of w at a time: rows of some lengths all fall into one set of the cache, which holds fewer
        // lines than there are rows.
        constexpr int vectors = static_cast<int>(kLine<Real>) / V::kLanes;
        for (; k + kLine<Real> <= depth; k += kLine<Real>) {
            V column[vectors];
            for (int v = 0; v < vectors; ++v) column[v] = V::load(a[0] + k + v * V::kLanes);
            for (int i = 0; i < N; ++i)
                for (int v = 0; v < vectors; ++v)
                    sum[0][i] = fma(column[v], V::load(b[i] + k + v * V::kLanes), sum[0][i]);
        }
    } else {
        for (; k + V::kLanes <= depth; k += V::kLanes) {
            V weights[N];
            for (int i = 0; i < N; ++i) weights[i] = V::load(b[i] + k);
            for (int r = 0; r < R; ++r) {
                const V column = V::load(a[r] + k);
                for (int i = 0; i < N; ++i) sum[r][i] = fma(column, weights[i], sum[r][i]);
            }
        }
    }
    for (; k < depth; k += V::kLanes) {
        const Index rest = smaller(V::kLanes, depth - k);
        for (int i = 0; i < N; ++i) {
            const V weights = load_part<V>(b[i] + k, rest);
            for (int r = 0; r < R; ++r) sum[r][i] = fma(load_part<V>(a[r] + k, rest), weights, sum[r][i]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < N; ++i) sums[r * V::kLanes + i] = sum[r][i];
}

// The same for the rows of w of one vector of units. Where there are only n of them, the last stands for the missing.
template <class V, int R>
FASTRNN_INLINE void accumulate(const typename V::Real* const* row, const typename V::Real* w, Index n, Index depth,
                               V* sums) {
    // As many sums at a time as max_rows() allows for, in tiles of nearly equal width.
    constexpr int most = (V::kRegisters == 32 ? 24 : 12) / R, tiles = (V::kLanes + most - 1) / most;
    constexpr int wide = (V::kLanes + tiles - 1) / tiles, last = V::kLanes - (tiles - 1) * wide;
    const typename V::Real* weights[V::kLanes];
    for (Index i = 0; i < V::kLanes; ++i) weights[i] = w + smaller(i, n - 1) * depth;
    for (int t = 0; t + 1 < tiles; ++t) accumulate_tile<V, R, wide>(row, weights + t * wide, depth, sums + t * wide);
    accumulate_tile<V, R, last>(row, weights + (tiles - 1) * wide, depth, sums + (tiles - 1) * wide);
}

// What the sums of one vector of units are made of, for up to kStepRows rows of the batch and some gates, whose rows of
// the weights are `input_stride` and `hidden_stride` apart.
template <class Real>
struct SumsOf {
    const Real *input[kStepRows], *hidden[kStepRows];  // rows of x, absent with tokens, and of W_hh's other operand
    const Real *w_ih, *w_hh;                           // of gate 0 and the first unit
    Index I, H, input_stride, hidden_stride, n;        // n: units in the vector
    unsigned apart;  // gates, as bits, whose two sums are given apart; of the others, all goes into the second
};

// Adds to from_input and from_hidden (R, gates each). Not a part of Step: the same for all cells, it is most of the
// code.
template <class V, int R>
FASTRNN_NOINLINE void add_sums(const SumsOf<typename V::Real>& of, int first, int count, int gates, V* from_input,
                               V* from_hidden) {
    for (int g = first; g < first + count; ++g) {
        V sum[R][V::kLanes];
        const auto start = [&] {
            for (int r = 0; r < R; ++r)
                for (V& s : sum[r]) s = V::zero();
        };
        start();
        if (of.input[0]) {
            accumulate<V, R>(of.input, of.w_ih + g * of.input_stride, of.n, of.I, sum[0]);
            if (of.apart >> g & 1u) {
                for (int r = 0; r < R; ++r) from_input[r * gates + g] = from_input[r * gates + g] + sums(sum[r]);
                start();
            }
        }
        accumulate<V, R>(of.hidden, of.w_hh + g * of.hidden_stride, of.n, of.H, sum[0]);
        for (int r = 0; r < R; ++r) from_hidden[r * gates + g] = from_hidden[r * gates + g] + sums(sum[r]);
    }
}

// For `rows` of them, at most kStepRows.
template <class V>
decltype(&add_sums<V, 1>) add_sums_for(int rows) {
    static_assert(kStepRows == 4);
    static constexpr decltype(&add_sums<V, 1>) add[] = {add_sums<V, 1>, add_sums<V, 2>, add_sums<V, 3>, add_sums<V, 4>};
    return add[rows - 1];
}

template <class Real>
void linear(const LinearArgs<Real>& args) {
    using V = Vec<Real>;
    SumsOf<Real> sums{};  // with a hidden size of 0
    sums.I = args.I;
    for (Index b = 0; b < args.B; b += kStepRows) {
        const int rows = static_cast<int>(smaller(kStepRows, args.B - b));
        for (int r = 0; r < rows; ++r) sums.input[r] = args.x + (b + r) * args.I;
        for (Index unit = 0; unit < args.O; unit += V::kLanes) {
            const Index n = smaller(V::kLanes, args.O - unit);
            sums.w_ih = args.weight + unit * args.I, sums.n = n;
            V y[kStepRows];
            for (int r = 0; r < rows; ++r) y[r] = args.bias ? load_part<V>(args.bias + unit, n) : V::zero();
            add_sums_for<V>(rows)(sums, 0, 1, 1, nullptr, y);
            for (int r = 0; r < rows; ++r) store_part(y[r], args.y + (b + r) * args.O + unit, n);
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
        // The state before the step may be missing, and phases hand each other planes of `saved`.
        return pitch<Real>(padded<V>(H)) + kStepRows * saved_pitch(H);
    }

    static void run(const StepArgs<Real>& args, Team* team) {
        const Range own = share(ceil_div(args.size.H, kLanes), team ? team->rank() : 0, team ? team->size() : 1);
        if (own.begin == 0) clear(args.workspace, args.size.H);
        if (team) team->barrier();
        for (Index b = 0; b < args.size.B; b += kStepRows)
            run_phase<0>(args, team, own, b, static_cast<int>(smaller(kStepRows, args.size.B - b)));
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

    // Blocks [own) of units, of `rows` rows from b on.
    template <int p>
    static void run_phase(const StepArgs<Real>& args, Team* team, Range own, Index b, int rows) {
        constexpr Phase phase = Cell::kForward[p];
        const Index H = args.size.H, I = args.size.I, Hp = padded<V>(H);
        const Real* const zeros = args.workspace;
        const Real* state[kStepRows][Cell::kStates];
        Real* saved[kStepRows];
        SumsOf<Real> sums;
        sums.I = I, sums.H = H, sums.apart = apart();
        sums.input_stride = H * I, sums.hidden_stride = H * H;
        for (int r = 0; r < rows; ++r) {
            for (int s = 0; s < Cell::kStates; ++s) state[r][s] = args.state[s] ? args.state[s] + (b + r) * H : zeros;
            saved[r] = args.workspace + pitch<Real>(Hp) + r * saved_pitch(H);
            sums.input[r] = args.x ? args.x + (b + r) * I : nullptr;
            sums.hidden[r] = phase.operand == kPreviousH ? state[r][kH] : saved[r] + phase.operand * Hp;
        }
        for (Index unit = own.begin * kLanes; unit < smaller(own.end * kLanes, H); unit += kLanes) {
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
            sums.w_ih = args.w_ih + unit * I, sums.w_hh = args.w_hh + unit * H, sums.n = n;
            add_sums_for<V>(rows)(sums, phase.first, phase.count, Cell::kGates, x[0], hidden[0]);
            for (int r = 0; r < rows; ++r) {
                V prev[Cell::kStates], kept[Cell::kSaved], next[Cell::kStates];
                for (int s = 0; s < Cell::kStates; ++s) prev[s] = load_part<V>(state[r][s] + unit, n);
                if constexpr (p > 0)
                    for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved[r] + s * Hp + unit);

                Cell::template forward<p>(x[r], hidden[r], prev, nullptr, kept, next);

                if constexpr (p + 1 < Cell::kPhases) {
                    for (int s = 0; s < Cell::kSaved; ++s)
                        if (writes(phase, s)) kept[s].store(saved[r] + s * Hp + unit);
                } else {
                    for (int s = 0; s < Cell::kStates; ++s)
                        store_part(next[s], args.next_state[s] + (b + r) * H + unit, n);
                }
            }
            if (team) team->poll(2.0 * static_cast<double>(phase.count * kLanes * (I + H)) * rows);
        }
        // Other threads' units of `saved` are operands of the next phase, and the next rows overwrite them.
        if (team && Cell::kPhases > 1) team->barrier();
        if constexpr (p + 1 < Cell::kPhases) run_phase<p + 1>(args, team, own, b, rows);
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
