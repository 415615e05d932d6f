// A cell on the sums of a panel, in the forward pass: its arithmetic, carried over rows and units. Addresses, tails,
// the tape and what regularises are here, and all of the pass that is compiled for each cell.
#pragma once

#include "cell_common.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf, class Real>
struct ForwardOf {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    using Run = ForwardRun<Real>;
    using Step = ForwardStep<Real>;
    static constexpr Index kLanes = V::kLanes;
    static constexpr int kGates = most_gates<Cell>();

    // See ForwardCell.
    template <int p>
    static void pairs(const Step& at, Index row, Index rows, Index block, const Real* sums, Index sums_row) {
        if constexpr (kInOneFunction<CellOf, Real>) return any<p>(at, row, block, rows, sums, sums_row, false);
        apply<p, true, 2>(at, row, block, rows, sums, sums_row, false);
    }
    template <int p>
    static void blocks(const Step& at, Index row, Index block, Index blocks, const Real* sums) {
        constexpr Index sums_step = Cell::kForward[p].count * kLanes;
        if constexpr (kInOneFunction<CellOf, Real>) return any<p>(at, row, block, blocks, sums, sums_step, true);
        apply<p, true, 1>(at, row, block, blocks, sums, sums_step, true);
    }
    template <int p>
    static void careful(const Step& at, Index row, Index rows, Index block, const Real* sums, Index sums_row) {
        if constexpr (kInOneFunction<CellOf, Real>) return any<p>(at, row, block, rows, sums, sums_row, false);
        apply<p, false, 1>(at, row, block, rows, sums, sums_row, false);
    }

private:
    static const Real* projected_at(const Run& run, Index block, Index row) {
        return run.projected + projected_offset(1 << panel_shift(Cell::kGates), Cell::kGates * kLanes, run.blocks,
                                                run.projected_rows, block, row);
    }

    // The cell's arithmetic on one block of units of `count` rows, whose sums are `sums_step` apart; or `along_units`:
    // on `count` blocks of one row, whose sums are. `plain`: whole blocks, and nothing of Regularisation. `at_once`:
    // that many rows side by side, 1 or 2.
    template <int p, bool plain, int at_once>
    FASTRNN_INLINE static void apply(const Step& at, Index row, Index block, Index count, const Real* sums,
                                     Index sums_step, bool along_units) {
        static_assert(at_once == 1 || plain);
        constexpr Phase phase = Cell::kForward[p];
        constexpr bool last = p + 1 == Cell::kPhases;
        const Run& run = *at.run;
        const Index H = run.H, Hp = run.Hp, unit = block * kLanes, n = plain ? kLanes : smaller(kLanes, H - unit);
        const bool training = run.training, is_first = at.first[kH];
        const CellOptions<Real>* const options = run.options;
        const Real* const projected = projected_at(run, block, 0);
        const Index projected_pitch = projected_at(run, block, 1) - projected;
        // All that moves on, in variables of its own: a store of a vector might change any member.
        const std::int32_t* slot = at.slot ? at.slot + row : nullptr;
        const Real* inputs = projected + (slot ? slot[0] : at.first_projected + row) * projected_pitch;
        Real* saved = at.saved + row * run.saved_pitch + unit;
        const Real* prev[Cell::kStates];
        Real *after[Cell::kStates], *tape[Cell::kStates];
        for (int s = 0; s < Cell::kStates; ++s) {
            prev[s] = at.prev[s] + row * H + unit;
            after[s] = at.next[s] + row * H + unit;
            tape[s] = at.first[s] + (is_first ? row * run.state_pitch + unit : 0);
        }
        const auto step = [&](Index from_row_to_row) { return along_units ? kLanes : from_row_to_row; };
        const Index inputs_step = along_units ? projected_at(run, block + 1, 0) - projected : projected_pitch;
        const Real* vectors = run.vectors + unit;
        const Index saved_step = step(run.saved_pitch), state_step = step(H), vector_step = step(0),
                    tape_step = is_first ? step(run.state_pitch) : 0;

        using Some = RowsAtOnce<V, at_once>;
        using W = typename Some::Vector;
        for (Index b = 0;; b += at_once) {
            W x[kGates], hidden[kGates], state[Cell::kStates], kept[Cell::kSaved], next[Cell::kStates];
            W vector[at_least_one(Cell::kVectors)];
            const Index to_second = at_once > 1 && slot ? (slot[b + 1] - slot[b]) * projected_pitch : inputs_step;
            for (int g = phase.first; g < phase.first + phase.count; ++g) {
                if (g < Cell::kGates) x[g] = Some::load(inputs + g * kLanes, to_second, kLanes);
                hidden[g] = Some::load(sums + (g - phase.first) * kLanes, sums_step, kLanes);
            }
            for (int s = 0; s < Cell::kStates; ++s) state[s] = Some::load(prev[s], state_step, n);
            for (int v = 0; v < Cell::kVectors; ++v) vector[v] = Some::load(vectors + v * H, vector_step, n);
            if constexpr (p > 0)
                for (int s = 0; s < Cell::kSaved; ++s) kept[s] = Some::load(saved + s * Hp, saved_step, kLanes);

            CellOf<W>::template forward<p>(x, hidden, state, Own<W>{vector, options}, kept, next);

            if constexpr (!plain) regularise<p>(run, at, row + b, unit, n, state, kept, next);
            if (training || !last)
                for (int s = 0; s < Cell::kSaved; ++s)
                    if (writes(phase, s)) Some::store(kept[s], saved + s * Hp, saved_step, kLanes);
            if constexpr (last) {
                if (is_first)
                    for (int s = 0; s < Cell::kStates; ++s) Some::store(state[s], tape[s], tape_step, kLanes);
                for (int s = 0; s < Cell::kStates; ++s) Some::store(next[s], after[s], state_step, n);
            }
            if (b + at_once == count) break;
            sums += at_once * sums_step, saved += at_once * saved_step, vectors += at_once * vector_step;
            inputs =
                slot && !along_units ? projected + slot[b + at_once] * projected_pitch : inputs + at_once * inputs_step;
            for (int s = 0; s < Cell::kStates; ++s) {
                prev[s] += at_once * state_step, after[s] += at_once * state_step;
                tape[s] += at_once * tape_step;
            }
        }
    }

    template <int p>
    FASTRNN_NOINLINE static void any(const Step& at, Index row, Index block, Index count, const Real* sums,
                                     Index sums_step, bool along_units) {
        apply<p, false, 1>(at, row, block, count, sums, sums_step, along_units);
    }

    // What zoneout and the mask make of what phase p gave for one block of units of one row.
    template <int p>
    FASTRNN_INLINE static void regularise(const Run& run, const Step& at, Index row, Index unit, Index n,
                                          const V* state, V* kept, V* next) {
        const Index place = row * run.H + unit;
        if constexpr (p + 1 == Cell::kPhases) {
            for (int s = 0; s < Cell::kStates; ++s)
                if (const Real* const keep = at.keep[s])
                    next[s] = zoned_out(load_part<V>(keep + row * run.keep_pitch + unit, n), state[s], next[s]);
            if (run.mask) store_part(next[kH] * load_part<V>(run.mask + place, n), at.masked + place, n);
        } else if constexpr (Cell::kMaskedPlane >= 0) {
            if (run.mask) kept[Cell::kMaskedPlane] = kept[Cell::kMaskedPlane] * load_part<V>(run.mask + place, n);
        }
    }
};

template <template <class> class CellOf, class Real>
constexpr ForwardCell<Real> forward_cell() {
    using Of = ForwardOf<CellOf, Real>;
    ForwardCell<Real> cell{};
    cell.phase[0] = {Of::template pairs<0>, Of::template blocks<0>, Of::template careful<0>};
    if constexpr (kShape<CellOf>.phases > 1)
        cell.phase[1] = {Of::template pairs<1>, Of::template blocks<1>, Of::template careful<1>};
    cell.shape = &kShape<CellOf>;
    return cell;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
