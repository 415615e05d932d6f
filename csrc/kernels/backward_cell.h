// A cell on the sums of a panel, in the backward pass, facing forward_cell.h; and how its states are restored.
#pragma once

#include "../product.h"
#include "cell_common.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf, class Real>
struct BackwardOf {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    using Run = BackwardRun<Real>;
    using Step = BackwardStep<Real>;
    static constexpr Index kLanes = V::kLanes;

    // See BackwardCell.
    static void restore(const RestoredRow<Real>& at, Index H, const Real* vectors, const CellOptions<Real>* options,
                        Index begin, Index end) {
        const RestoredRow<Real> row = at;
        const Index Hp = padded<V>(H);
        for (Index unit = begin; unit < end; unit += kLanes) {
            const Index n = smaller(kLanes, H - unit);
            V kept[Cell::kSaved], before[Cell::kStates], after[Cell::kStates];
            V vector[at_least_one(Cell::kVectors)];
            load_vectors(vectors, H, unit, n, vector);
            for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(row.saved + s * Hp + unit);
            for (int s = 0; s < Cell::kStates; ++s) before[s] = load_part<V>(row.before[s] + unit, n);
            Cell::restore(kept, before, Own<V>{vector, options}, after);
            for (int s = 0; s < Cell::kStates; ++s)
                if (row.keep[s]) after[s] = zoned_out(load_part<V>(row.keep[s] + unit, n), before[s], after[s]);
            for (int s = 0; s < Cell::kStates; ++s) store_part(after[s], row.after[s] + unit, n);
        }
    }

    // `plain`: whole blocks, and nothing of Regularisation.
    template <int p, bool plain>
    static void apply(const Step& at, Index row, Index block, Index count, const Real* sums, Index sums_row) {
        constexpr Phase phase = Cell::kBackward[p];
        const Run& run = *at.run;
        const Index H = run.H, Hp = run.Hp, unit = block * kLanes, n = plain ? kLanes : smaller(kLanes, H - unit);
        const bool adds_carry = at.adds_carry, carries_h = plain ? Cell::kCarriesH : run.carries_h;
        const bool along_units = sums_row == 0;
        // As in forward_cell.h, variables of its own for all that moves on.
        const Real* saved = at.saved + row * run.saved_pitch + unit;
        const Real* dy = at.dy ? at.dy + row * H + unit : nullptr;
        Real* const dh = at.dh ? at.dh + row * H + unit : nullptr;
        Real* gradient = at.gradient + row * run.gradient_pitch + unit;
        const Real* prev[Cell::kStates];
        Real* carry[Cell::kStates];
        for (int s = 0; s < Cell::kStates; ++s) {
            prev[s] = at.prev[s] + row * run.state_pitch + unit;
            carry[s] = run.carry[s] + row * run.carry_pitch + unit;
        }
        const auto step = [&](Index from_row_to_row) { return along_units ? kLanes : from_row_to_row; };
        const Index sums_step = step(sums_row), saved_step = step(run.saved_pitch), dy_step = step(H),
                    gradient_step = step(run.gradient_pitch), state_step = step(run.state_pitch),
                    carry_step = step(run.carry_pitch);

        for (Index b = 0; b < count; ++b) {
            V kept[Cell::kSaved], before[Cell::kStates], after[Cell::kStates];
            V dnext[Cell::kStates], dgate[Cell::kGradients + Cell::kLearned], dprev[Cell::kStates];
            V vector[at_least_one(Cell::kVectors)];
            load_vectors(run.vectors, H, along_units ? unit + b * kLanes : unit, n, vector);
            const Own<V> own{vector, run.options};
            V sum = V::load(sums);
            if constexpr (!plain && (p == 0 || Cell::kMaskedPlane >= 0))
                if (run.mask) sum = sum * load_part<V>(run.mask + (row + b) * H + unit, n);
            for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved + s * Hp);
            for (int s = 0; s < Cell::kStates; ++s) {
                before[s] = load_part<V>(prev[s], n);
                dnext[s] = dprev[s] = V::load(carry[s]);
            }
            if constexpr (p == 0) {
                dnext[kH] = adds_carry ? dnext[kH] + sum : sum;
                if (dy) dnext[kH] = dnext[kH] + load_part<V>(dy + b * dy_step, n);
                if (dh) store_part(dnext[kH], dh + b * dy_step, n);
            }

            // What zoneout hands on past the cell.
            V past[Cell::kStates];
            if constexpr (!plain && p == 0)
                for (int s = 0; s < Cell::kStates; ++s) {
                    past[s] = V::zero();
                    if (!at.keep[s]) continue;
                    const V keep = load_part<V>(at.keep[s] + (row + b) * run.keep_pitch + unit, n);
                    past[s] = (V::broadcast(1) - keep) * dnext[s];
                    dnext[s] = dnext[s] * keep;
                    if (s == kH && !Cell::kCarriesH) dprev[s] = V::zero();
                }

            Cell::restore(kept, before, own, after);
            Cell::template backward<p>(kept, before, own, after, sum, dnext, dgate, dprev);

            if constexpr (!plain && p == 0)
                for (int s = 0; s < Cell::kStates; ++s)
                    if (at.keep[s]) dprev[s] = dprev[s] + past[s];
            for (int g = 0; g < Cell::kGradients + Cell::kLearned; ++g)
                if (writes(phase, g)) store_part(dgate[g], gradient + g * H, n);
            for (int s = 0; s < Cell::kStates; ++s)
                if (s != kH || carries_h) dprev[s].store(carry[s]);
            sums += sums_step, saved += saved_step, gradient += gradient_step;
            for (int s = 0; s < Cell::kStates; ++s) prev[s] += state_step, carry[s] += carry_step;
        }
    }

private:
    static void load_vectors(const Real* vectors, Index H, Index unit, Index n, V* vector) {
        for (int v = 0; v < Cell::kVectors; ++v) vector[v] = load_part<V>(vectors + v * H + unit, n);
    }
};

template <template <class> class CellOf, class Real>
constexpr BackwardCell<Real> backward_cell() {
    using Of = BackwardOf<CellOf, Real>;
    static_assert(1 + kShape<CellOf>.saved <= Touched<Real>::kMost);
    BackwardCell<Real> cell{};
    constexpr bool plain = !kInOneFunction<CellOf, Real>;
    cell.phase[0] = {Of::template apply<0, plain>, Of::template apply<0, false>};
    if constexpr (kShape<CellOf>.phases > 1 && kShape<CellOf>.backward[1].writes != 0)
        cell.phase[1] = {Of::template apply<1, plain>, Of::template apply<1, false>};
    cell.restore = Of::restore;
    return cell;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
