// The backward pass of every cell, facing forward.h. The hot loop is run(): for each step from the last, product() of
// the next step's gate gradients with this thread's columns of W_hh, and the cell's gradient arithmetic on the sums.
// Weight gradients and dx follow by blocks of steps, while the block's gate gradients are in cache.
#pragma once

#include <cfloat>

#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// out (rows, columns) = rows times panels, or is added to.
template <class V>
FASTRNN_NOINLINE void multiply_into(const Rows<typename V::Real>& rows, Index row_begin, Index row_end,
                                    const Panels<V>& panels, Index columns, bool add, typename V::Real* out,
                                    Team& team) {
    using Real = typename V::Real;
    const auto epilogue = [&](Index first, Index count, Index panel, int width, const Real* sums) {
        for (Index row = first; row < first + count; ++row) {
            for (int v = 0; v < width; ++v, sums += V::kLanes) {
                const Index column = (panel * panels.width + v) * V::kLanes;
                const Index n = smaller(V::kLanes, columns - column);
                Real* const to = out + row * columns + column;
                const V sum = V::load(sums);
                store_part(add ? sum + load_part<V>(to, n) : sum, to, n);
            }
        }
        team.poll(2.0 * static_cast<double>(count * width * V::kLanes * panels.depth));
    };
    Touched<Real> touched;
    touched.add(out, columns);
    product<V>(rows, row_begin, row_end, panels, {0, panels.count()}, epilogue, &touched);
}

template <class Real>
constexpr Real largest_number() {
    if constexpr (sizeof(Real) == sizeof(float))
        return FLT_MAX;
    else
        return DBL_MAX;
}

// A sum of many terms in two vectors: what rounding has left out of the first is in the second, and goes in with the
// next term (Kahan, 1965, with Knuth's two-sum). So it is right to the last bit or two, however many terms there are.
// Of an infinite sum, or NaN, nothing is left out.
template <class V>
struct LongSum {
    V sum, rest;

    void add(V term) {
        const V all = term + rest, next = sum + all, counted = next - sum;
        const V left_out = (sum - (next - counted)) + (all - counted);
        rest = where_positive(V::broadcast(largest_number<typename V::Real>()) - abs(next), left_out);
        sum = next;
    }
};

// Adds to sums (units) the columns of gate (depth, pitch), or sets them; `rest` has what rounding left out.
template <class V>
FASTRNN_NOINLINE void column_sums(const typename V::Real* gate, Index pitch, Range units, Index depth, bool add,
                                  typename V::Real* sums, typename V::Real* rest) {
    constexpr Index part = 16;  // rows that are added in the plain way: off by 8 roundings at most
    for (Index unit = units.begin; unit < units.end; unit += V::kLanes) {
        const Index n = smaller(V::kLanes, units.end - unit);
        LongSum<V> whole{add ? load_part<V>(sums + unit, n) : V::zero(),
                         add ? load_part<V>(rest + unit, n) : V::zero()};
        const typename V::Real* row = gate + unit;
        for (Index first = 0; first < depth; first += part) {
            const Index rows = smaller(part, depth - first);
            V even = V::zero(), odd = V::zero();
            for (Index i = 0; i + 1 < rows; i += 2, row += 2 * pitch) {
                even = even + load_part<V>(row, n);
                odd = odd + load_part<V>(row + pitch, n);
            }
            if (rows % 2 != 0) even = even + load_part<V>(row, n);
            whole.add(even + odd);
        }
        store_part(whole.sum, sums + unit, n);
        store_part(whole.rest, rest + unit, n);
    }
}

// Adds each row of gate (depth, pitch) to the row of its token, of sums (D, sums_pitch). What rounding leaves out goes
// to rests, (.., sums_pitch), in row rest_place[token] if that is not negative; without `rest_place` in the token's
// own.
template <class V>
FASTRNN_NOINLINE void token_sums(const typename V::Real* gate, Index pitch, Range units, const std::int32_t* slot,
                                 Index depth, typename V::Real* sums, const std::int32_t* rest_place,
                                 typename V::Real* rests, Index sums_pitch) {
    for (Index row = 0; row < depth; ++row, gate += pitch) {
        typename V::Real* const sum = sums + slot[row] * sums_pitch;
        const auto term = [&](Index unit) { return load_part<V>(gate + unit, smaller(V::kLanes, units.end - unit)); };
        const Index place = rest_place ? rest_place[slot[row]] : slot[row];
        if (place < 0) {
            for (Index unit = units.begin; unit < units.end; unit += V::kLanes)
                (V::load(sum + unit) + term(unit)).store(sum + unit);
            continue;
        }
        typename V::Real* const rest = rests + place * sums_pitch;
        for (Index unit = units.begin; unit < units.end; unit += V::kLanes) {
            LongSum<V> whole{V::load(sum + unit), V::load(rest + unit)};
            whole.add(term(unit));
            whole.sum.store(sum + unit);
            whole.rest.store(rest + unit);
        }
    }
}

template <template <class> class CellOf, class Real>
class Backward {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    static constexpr Index kLanes = V::kLanes;

    struct Workspace {
        Index gradient_pitch, carry_pitch, token_pitch, rows_pitch;
        Real* gradient;  // (block steps * B, gradient_pitch): kGradients planes of H, and those of learned vectors
        Real* state[Cell::kStates];  // (block steps * B, state_pitch of the tape): before each step
        Real* carry[Cell::kStates];  // (B, carry_pitch): what reaches the step before past the gates
        Real* token_gradient;        // (D, token_pitch): the gradient of each distinct token's column of w_ih
        Real* token_rest;            // (.., token_pitch): what rounding left out of those of frequent tokens, or of all
        Real* rest;                  // (2 * G + L, H): likewise of db_ih, db_hh and dvectors, if the caller keeps none
        // For the weight gradients of a block of steps, whose k are its rows: what the gates were multiplied with, as
        // panels, and each thread's gradients of some units, transposed.
        Real* packed_x;                 // absent with tokens
        Real* packed_h[Cell::kPhases];  // of each phase of forward
        Real* transposed;               // (threads, kRowBlock, rows_pitch)
        Index total;

        Workspace(const BackwardArgs<Real>& args, Real* base) {
            const Sizes& size = args.size;
            const Index rows = block_steps(size) * size.B, threads = args.split.batch_parts * args.split.unit_parts;
            gradient_pitch = pitch<Real>((Cell::kGradients + Cell::kLearned) * size.H);
            carry_pitch = pitch<Real>(size.H);
            token_pitch = pitch<Real>(Cell::kGates * padded<V>(size.H));
            rows_pitch = pitch<Real>(rows);
            Carver<Real> carver{base};
            gradient = carver.take(rows * gradient_pitch);
            for (Real*& states : state) states = carver.take(rows * Tape<Cell, V>(size, nullptr).state_pitch);
            for (int s = 0; s < Cell::kStates; ++s) carry[s] = carver.take(size.B * carry_pitch);
            token_gradient = carver.take(size.D * token_pitch);
            token_rest = carver.take(rest_count(args) * token_pitch);
            rest = carver.take((2 * Cell::kGates + Cell::kLearned) * size.H);
            packed_x = carver.take(size.D ? 0 : packed_size<V>(size.I, 1, rows));
            for (int p = 0; p < Cell::kPhases; ++p)
                packed_h[p] = carver.take(Cell::kForward[p].operand == kNothing ? 0 : packed_size<V>(size.H, 1, rows));
            transposed = carver.take(threads * kRowBlock * rows_pitch);
            total = carver.used;
        }
    };

public:
    static Index workspace_size(const BackwardArgs<Real>& args) { return Workspace(args, nullptr).total; }
    static void run(const BackwardArgs<Real>& args, Team& team) { Backward(args, team).run(); }

private:
    Backward(const BackwardArgs<Real>& args, Team& team)
        : args_(args),
          team_(team),
          size_(args.size),
          // The tape is only read; Tape names its pieces for both passes.
          tape_(args.size, const_cast<Real*>(args.tape)),
          work_(args, args.workspace),
          shares_units_(args.split.unit_parts > 1),
          regularised_(regularises<Cell>(args.regularisation)),
          carries_h_(Cell::kCarriesH || args.regularisation.keep[kH]),
          long_steps_(has_long_steps<Cell>(args.size)),
          Hp_(padded<V>(size_.H)),
          rest_(args.rest ? args.rest : work_.rest),
          rest_w_ih_(rest_ + (2 * Cell::kGates + Cell::kLearned) * size_.H) {
        const int unit_part = team.rank() % args.split.unit_parts;
        const Range rows = share(size_.B, team.rank() / args.split.unit_parts, args.split.batch_parts);
        const Range panels = share(ceil_div(Hp_ / kLanes, kMaxWidth), unit_part, args.split.unit_parts);
        const Range own = share(Hp_ / kLanes, team.rank(), team.size());
        row_begin_ = rows.begin, row_end_ = rows.end;
        panel_begin_ = panels.begin, panel_end_ = panels.end;
        unit_begin_ = own.begin * kLanes, unit_end_ = smaller(own.end * kLanes, size_.H);
    }

    void run() {
        const Index steps = block_steps(size_);
        start();
        Index end = size_.B > 0 ? size_.T : 0;
        const auto begin_of_block = [&] { return end > 0 ? (end - 1) / steps * steps : 0; };
        restore(begin_of_block(), end);
        team_.barrier();
        while (end > 0) {
            const Index begin = begin_of_block();
            for (Index t = end - 1; t >= begin; --t) run_phase<0>(t, begin, end);
            if (args_.regularisation.mask) {
                mask_states(begin, end);
                team_.barrier();
            }
            pack_operands(begin, end);
            team_.barrier();
            gradients_of_block(begin, end);
            end = begin;
            restore(begin_of_block(), end);
            team_.barrier();
        }
        finish();
    }

    Index own_units() const { return larger(0, unit_end_ - unit_begin_); }

    // This thread's share of the units in the recurrence, up to `limit`.
    Range recurrent_units(Index limit) const {
        const Index begin = panel_begin_ * kMaxWidth * kLanes;
        return {begin, larger(begin, smaller(panel_end_ * kMaxWidth * kLanes, limit))};
    }

    // What the sums of phase p are made of. With a projection they are for the units of h alone: there may be fewer
    // panels than those of all units.
    Panels<V> hidden_panels(int p) const {
        const Phase phase = Cell::kBackward[p];
        return {tape_.packed_hh[p], ceil_div(units_of(phase, size_), kLanes), kMaxWidth,
                gradient_depth<Cell>(phase, size_)};
    }
    Range own_panels(const Panels<V>& panels) const {
        const Index end = smaller(panel_end_, panels.count());
        return {smaller(panel_begin_, end), end};
    }

    // The gradient of the last states is what is carried into the last step; with no step, weights have no gradient.
    void start() const {
        const Range units = recurrent_units(size_.H);
        for (int s = 0; s < Cell::kStates; ++s) {
            for (Index b = row_begin_; b < row_end_; ++b) {
                Real* const carry = work_.carry[s] + b * work_.carry_pitch + units.begin;
                if (args_.dstate_n[s])
                    copy(args_.dstate_n[s] + b * size_.H + units.begin, units.end - units.begin, carry);
                else
                    clear(carry, units.end - units.begin);
            }
        }
        const auto clear_rows = [&](Real* rows, Index count) {
            for (Index row = 0; row < count; ++row)
                for (int g = 0; g < Cell::kGates; ++g)
                    clear(rows + row * work_.token_pitch + g * Hp_ + unit_begin_, own_units());
        };
        clear_rows(work_.token_gradient, size_.D);
        clear_rows(work_.token_rest, rest_count(args_));
        if (args_.adds) {
            read_tokens(args_.dw_ih, work_.token_gradient);
            read_tokens(rest_w_ih_, work_.token_rest);
        }
        if (size_.T * size_.B > 0 || args_.adds) return;
        for (int g = 0; g < Cell::kGates; ++g)
            clear(args_.dw_ih + (g * size_.H + unit_begin_) * size_.I, own_units() * size_.I);
        each_column_sum([&](Real* sums, Real* rest) { clear(sums, own_units()), clear(rest, own_units()); });
        for (int g = 0; args_.dw_hh && g < recurrent_gates<Cell>(); ++g) {
            const HiddenRows<Real> dw = hidden_rows<Cell>(g, size_, args_.dw_hh);
            const Index end = smaller(unit_end_, dw.rows);
            clear(dw.first + unit_begin_ * dw.length, larger(0, end - unit_begin_) * dw.length);
        }
    }

    // Calls use(sums, rest) for this thread's units of each gate's biases, and of each learned vector.
    template <class Use>
    void each_column_sum(const Use& use) const {
        const Index H = size_.H;
        for (int g = 0; g < Cell::kGates; ++g) {
            use(args_.db_ih + g * H + unit_begin_, rest_b_ih(g) + unit_begin_);
            use(args_.db_hh + g * H + unit_begin_, rest_b_hh(g) + unit_begin_);
        }
        for (int v = 0; v < Cell::kLearned; ++v)
            use(args_.dvectors + v * H + unit_begin_, rest_vectors(v) + unit_begin_);
    }

    // How many tokens have a rest, and where it is; negative: nowhere.
    static Index rest_count(const BackwardArgs<Real>& args) {
        return rest_places(args) ? args.tokens.frequent : args.size.D;
    }
    static const std::int32_t* rest_places(const BackwardArgs<Real>& args) {
        return args.rest ? nullptr : args.tokens.frequent_place;
    }

    // Between rows (D, token_pitch), one for each distinct token, and the columns of w (G*H, I) that are theirs, of
    // this thread's units. A row of w at a time: so it is found in cache where it has just been cleared.
    void read_tokens(const Real* w, Real* rows) const {
        each_row_of_w([&](Index row, Index column) {
            for (Index d = 0; d < size_.D; ++d)
                rows[d * work_.token_pitch + column] = w[row * size_.I + args_.tokens.id[d]];
        });
    }
    void write_tokens(const Real* rows, Real* w) const {
        each_row_of_w([&](Index row, Index column) {
            if (!args_.adds) clear(w + row * size_.I, size_.I);
            for (Index d = 0; d < size_.D; ++d)
                w[row * size_.I + args_.tokens.id[d]] = rows[d * work_.token_pitch + column];
        });
    }
    template <class Use>
    void each_row_of_w(const Use& use) const {
        for (int g = 0; g < Cell::kGates; ++g)
            for (Index unit = unit_begin_; unit < unit_end_; ++unit) {
                use(g * size_.H + unit, g * Hp_ + unit);
                team_.poll(kWorkOfMoving * static_cast<double>(size_.I + size_.D));
            }
    }

    // What rounding left out of the sums of gate g, and of vector v: (H,) each.
    Real* rest_b_ih(int g) const { return rest_ + g * size_.H; }
    Real* rest_b_hh(int g) const { return rest_ + (Cell::kGates + g) * size_.H; }
    Real* rest_vectors(int v) const { return rest_ + (2 * Cell::kGates + v) * size_.H; }

    void load_vectors(Index unit, Index n, V* own) const {
        for (int v = 0; v < Cell::kVectors; ++v) own[v] = load_part<V>(tape_.vectors + v * size_.H + unit, n);
    }

    // Row `row` of state s in the block at hand: before its step.
    Real* state(int s, Index row) const { return work_.state[s] + row * tape_.state_pitch; }

    // The states of this thread's rows and units in steps [begin, end), which are a block.
    void restore(Index begin, Index end) const {
        if (begin == end) return;
        const Index first = begin / block_steps(size_) * size_.B;
        const Range units = recurrent_units(Hp_);
        for (int s = 0; s < Cell::kStates; ++s)
            for (Index b = row_begin_; b < smaller(row_end_, step_rows(size_, begin)); ++b)
                copy(tape_.state[s] + (first + b) * tape_.state_pitch + units.begin, units.end - units.begin,
                     state(s, b) + units.begin);
        for (Index t = begin; t + 1 < end; ++t) {
            const Index row = first_row(size_, t), from = row - first_row(size_, begin),
                        to = from + step_rows(size_, t);
            for (Index b = row_begin_; b < smaller(row_end_, step_rows(size_, t + 1)); ++b) {
                const Real* const saved = tape_.saved + (row + b) * tape_.saved_pitch;
                for (Index unit = units.begin; unit < units.end; unit += kLanes) {
                    V kept[Cell::kSaved], before[Cell::kStates], after[Cell::kStates];
                    V own[at_least_one(Cell::kVectors)];
                    load_vectors(unit, smaller(kLanes, size_.H - unit), own);
                    for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved + s * Hp_ + unit);
                    for (int s = 0; s < Cell::kStates; ++s) before[s] = V::load(state(s, from + b) + unit);
                    Cell::restore(kept, before, own, after);
                    for (int s = 0; s < Cell::kStates; ++s)
                        if (const Real* const keep = keep_of(args_.regularisation, s, row + b))
                            after[s] = zoned_out(load_part<V>(keep + unit, smaller(kLanes, size_.H - unit)), before[s],
                                                 after[s]);
                    for (int s = 0; s < Cell::kStates; ++s) after[s].store(state(s, to + b) + unit);
                }
            }
        }
    }

    // This thread's part of the restored h, as W_hh met it: the cell's arithmetic is through with them.
    void mask_states(Index begin, Index end) const {
        const Range units = recurrent_units(size_.H);
        for (Index t = begin; t < end; ++t)
            for (Index b = row_begin_; b < smaller(row_end_, step_rows(size_, t)); ++b) {
                Real* const h = state(kH, first_row(size_, t) - first_row(size_, begin) + b);
                const Real* const mask = args_.regularisation.mask + b * size_.H;
                for (Index u = units.begin; u < units.end; ++u) h[u] = h[u] * mask[u];
            }
    }

    // Plane `plane` of the gate gradients from row `row` of the block on.
    Real* gradients(Index row, int plane) const {
        return work_.gradient + row * work_.gradient_pitch + plane * size_.H;
    }

    template <int p>
    void run_phase(Index t, Index begin, Index end) {
        constexpr Phase phase = Cell::kBackward[p];
        const Index H = size_.H;
        const Index block_row = first_row(size_, begin);
        const auto own_rows_end = [&](Index step) {
            return larger(row_begin_, smaller(row_end_, step_rows(size_, step)));
        };
        // The step after a block's last is the first of the block after it, still in the first place. It may have fewer
        // rows, none at the end: what the others get from later steps is what was carried into them from outside.
        const Index source = phase.operand == kSameGradients ? t : t + 1;
        const Index from_later = own_rows_end(source), row_end = own_rows_end(t);
        const Rows<Real> operand{gradients(source < end ? first_row(size_, source) - block_row : 0, phase.first),
                                 work_.gradient_pitch};
        const Panels<V> panels = hidden_panels(p);
        Step at = step_at(t, first_row(size_, t) - block_row);
        const auto epilogue = [&](Index first, Index count, Index panel, int width, const Real* sums) {
            if (long_steps_) team_.poll(work_of_sums(count * width * kLanes, panels.depth));
            const Index past = panel * kMaxWidth + width, whole = smaller(past, H / kLanes);
            for (Index block = panel * kMaxWidth, n; block < past; block += n, sums += n * kLanes) {
                const bool plain = block < whole && !regularised_;
                n = count > 1 || !plain ? 1 : whole - block;
                const Blocks range{first, count, block, n};
                if (plain)
                    apply<p, true>(at, range, sums, width * kLanes);
                else
                    apply_with_care<p>(at, range, sums, width * kLanes);
            }
        };
        const Range own = own_panels(panels);
        const Turns turns{own.begin, own.end, t % 2 != 0, shares_units_ ? &team_ : nullptr, panels.count()};
        Touched<Real> touched;
        static_assert(1 + Cell::kSaved <= Touched<Real>::kMost);
        if (from_later - row_begin_ > 1) {
            touched.add(at.dy, H);
            for (int s = 0; s < Cell::kSaved; ++s) touched.add(at.saved + s * Hp_, tape_.saved_pitch);
        }
        product<V>(operand, row_begin_, from_later, panels, turns, epilogue, &touched);
        at.adds_carry = true;
        Panels<V> nothing = panels;
        nothing.depth = 0;
        product<V>(operand, from_later, row_end, nothing, {own.begin, own.end}, epilogue);
        if (shares_units_) team_.barrier();
        if constexpr (p == 0 && Cell::kNormalised > 0) {
            normalise_gradients(at, t, row_end);
            if (shares_units_) team_.barrier();
        }
        if constexpr (p + 1 == Cell::kPhases || Cell::kBackward[p + 1 < Cell::kPhases ? p + 1 : p].writes == 0)
            team_.poll(2.0 * static_cast<double>((row_end - row_begin_) * H * Cell::kGates * H) /
                       args_.split.unit_parts);
        else
            run_phase<p + 1>(t, begin, end);
    }

    // Where a step finds and leaves what it works on, of row 0 and unit 0.
    struct Step {
        const Real* prev[Cell::kStates];
        const Real* saved;
        const Real* keep[Cell::kStates];  // null: all
        const Real* dy;                   // null is zeros
        Real* dh;                         // null: not wanted
        Real* gradient;
        bool adds_carry;  // whether something of dL/dh is carried past the gates
    };

    // Step t, whose rows come in its block of steps from row `place` on.
    Step step_at(Index t, Index place) const {
        const Index row = first_row(size_, t);
        Step at;
        for (int s = 0; s < Cell::kStates; ++s) {
            at.prev[s] = state(s, place);
            at.keep[s] = keep_of(args_.regularisation, s, row);
        }
        at.saved = tape_.saved + row * tape_.saved_pitch;
        at.dy = args_.dy ? args_.dy + row * size_.H : nullptr;
        at.dh = args_.dh ? args_.dh + row * size_.H : nullptr;
        at.gradient = gradients(place, 0);
        at.adds_carry = carries_h_;
        return at;
    }

    // The gradients by what was normalised in step t become those by the sums, in this thread's share of the rows.
    void normalise_gradients(const Step& at, Index t, Index row_end) const {
        const Range own = share(row_end - row_begin_, team_.rank() % args_.split.unit_parts, args_.split.unit_parts);
        for (Index row = row_begin_ + own.begin; row < row_begin_ + own.end; ++row)
            for (int i = 0; i < Cell::kNormalised; ++i)
                normalise_gradient<V>(at.saved + row * tape_.saved_pitch + (Cell::kFirstNormalised + i) * Hp_,
                                      tape_.scale[(first_row(size_, t) + row) * Cell::kNormalised + i], size_.H,
                                      at.gradient + row * work_.gradient_pitch + i * size_.H);
    }

    // The gradient of the cell's arithmetic on one block of units of some rows, whose sums are `sums_row` apart, or on
    // some blocks of one row.
    // `plain`: whole blocks, and nothing of Regularisation.
    template <int p, bool plain>
    void apply(const Step& at, const Blocks& blocks, const Real* sums, Index sums_row) const {
        constexpr Phase phase = Cell::kBackward[p];
        const Index H = size_.H, row = blocks.row, unit = blocks.block * kLanes,
                    n = plain ? kLanes : smaller(kLanes, H - unit);
        const bool adds_carry = at.adds_carry, carries_h = plain ? Cell::kCarriesH : carries_h_;
        const bool along_units = blocks.blocks > 1;
        // As in forward.h, variables of its own for all that moves on.
        const Real* saved = at.saved + row * tape_.saved_pitch + unit;
        const Real* dy = at.dy ? at.dy + row * H + unit : nullptr;
        Real* const dh = at.dh ? at.dh + row * H + unit : nullptr;
        Real* gradient = at.gradient + row * work_.gradient_pitch + unit;
        const Real* prev[Cell::kStates];
        Real* carry[Cell::kStates];
        for (int s = 0; s < Cell::kStates; ++s) {
            prev[s] = at.prev[s] + row * tape_.state_pitch + unit;
            carry[s] = work_.carry[s] + row * work_.carry_pitch + unit;
        }
        const auto step = [&](Index from_row_to_row) { return along_units ? kLanes : from_row_to_row; };
        const Index sums_step = step(sums_row), saved_step = step(tape_.saved_pitch), dy_step = step(H),
                    gradient_step = step(work_.gradient_pitch), state_step = step(tape_.state_pitch),
                    carry_step = step(work_.carry_pitch);
        const Index Hp = Hp_, count = along_units ? blocks.blocks : blocks.rows;

        for (Index b = 0; b < count; ++b) {
            V kept[Cell::kSaved], before[Cell::kStates], after[Cell::kStates];
            V dnext[Cell::kStates], dgate[Cell::kGradients + Cell::kLearned], dprev[Cell::kStates];
            V own[at_least_one(Cell::kVectors)];
            load_vectors(along_units ? unit + b * kLanes : unit, n, own);
            V sum = V::load(sums);
            if constexpr (!plain && (p == 0 || Cell::kMaskedPlane >= 0))
                if (const Real* const mask = args_.regularisation.mask)
                    sum = sum * load_part<V>(mask + (row + b) * H + unit, n);
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
                    const V keep = load_part<V>(at.keep[s] + (row + b) * args_.regularisation.keep_pitch + unit, n);
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

    template <int p>
    FASTRNN_NOINLINE void apply_with_care(const Step& at, const Blocks& blocks, const Real* sums,
                                          Index sums_row) const {
        apply<p, false>(at, blocks, sums, sums_row);
    }

    // What the weights were multiplied with in steps [begin, end), for everyone's weight gradients.
    void pack_operands(Index begin, Index end) const {
        const Index first = first_row(size_, begin), rows = first_row(size_, end) - first;
        if (!size_.D) pack_operand(tape_.x + first * size_.I, size_.I, rows, size_.I, work_.packed_x);
        for (int p = 0; p < Cell::kPhases; ++p) {
            const int plane = Cell::kForward[p].operand;
            if (plane == kNothing) continue;
            if (plane == kPreviousH)
                pack_operand(state(kH, 0), tape_.state_pitch, rows, units_of_h(size_), work_.packed_h[p]);
            else
                pack_operand(tape_.saved + first * tape_.saved_pitch + plane * Hp_, tape_.saved_pitch, rows, size_.H,
                             work_.packed_h[p]);
        }
    }

    void pack_operand(const Real* operand, Index operand_pitch, Index rows, Index columns, Real* packed) const {
        constexpr int whole[] = {0};
        const Range own = share(ceil_div(columns, kMaxWidth * kLanes), team_.rank(), team_.size());
        for (Index panel = own.begin; panel < own.end; ++panel) {
            pack_columns<V>(operand, operand_pitch, rows, columns, whole, 1, panel, packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * kLanes * rows));
        }
    }

    // All gradients that steps [begin, end) give and the steps before them do not need, in pieces: those of the weights
    // of some units of a gate, and those of some rows of x.
    void gradients_of_block(Index begin, Index end) const {
        const Index blocks = ceil_div(size_.H, kRowBlock), weights = most_gates<Cell>() * blocks;
        const Index rows = first_row(size_, end) - first_row(size_, begin),
                    inputs = args_.dx ? ceil_div(rows, kRowBlock) : 0;
        for (Index piece; (piece = team_.claim(weights + inputs)) >= 0;) {
            if (piece < weights) {
                const Index unit = piece % blocks * kRowBlock;
                weight_gradients(begin, end, static_cast<int>(piece / blocks),
                                 {unit, smaller(unit + kRowBlock, size_.H)});
            } else {
                const Index row = (piece - weights) * kRowBlock;
                input_gradients(begin, {row, smaller(row + kRowBlock, rows)});
            }
        }
    }

    // dW_ih, dW_hh, db_ih, db_hh, and with gate 0 the vectors', of at most kRowBlock units of gate g, over the rows of
    // steps [begin, end).
    void weight_gradients(Index begin, Index end, int g, Range units) const {
        const Index H = size_.H, I = size_.I, count = units.end - units.begin;
        const Index rows = first_row(size_, end) - first_row(size_, begin);
        const bool add = end < size_.T || args_.adds;
        const bool has_input = g < Cell::kGates;
        const Real* const dx_gate = has_input ? gradients(0, Cell::kInputGradient[g]) : nullptr;
        const Real* const dh_gate = gradients(0, Cell::kHiddenGradient[g]);
        Real* const transposed = work_.transposed + team_.rank() * kRowBlock * work_.rows_pitch;

        if (has_input) {
            transpose<V>(dx_gate + units.begin, work_.gradient_pitch, rows, count, transposed, work_.rows_pitch);
            if (size_.D)
                token_sums<V>(dx_gate, work_.gradient_pitch, units, args_.tokens.slot + first_row(size_, begin), rows,
                              work_.token_gradient + g * Hp_, rest_places(args_), work_.token_rest + g * Hp_,
                              work_.token_pitch);
            else
                outer_product(transposed, count, work_.packed_x, I, rows, add, args_.dw_ih + (g * H + units.begin) * I);
            column_sums<V>(dx_gate, work_.gradient_pitch, units, rows, add, args_.db_ih + g * H, rest_b_ih(g));
        }

        if (dh_gate != dx_gate)
            transpose<V>(dh_gate + units.begin, work_.gradient_pitch, rows, count, transposed, work_.rows_pitch);
        int phase = 0;
        while (g >= Cell::kForward[phase].first + Cell::kForward[phase].count) ++phase;
        if (Cell::kForward[phase].operand != kNothing) {
            const HiddenRows<Real> dw = hidden_rows<Cell>(g, size_, args_.dw_hh);
            outer_product(transposed, smaller(count, larger(0, dw.rows - units.begin)), work_.packed_h[phase],
                          dw.length, rows, add, dw.first + units.begin * dw.length);
        }
        if (has_input)
            column_sums<V>(dh_gate, work_.gradient_pitch, units, rows, add, args_.db_hh + g * H, rest_b_hh(g));

        for (int v = 0; g == 0 && v < Cell::kLearned; ++v)
            column_sums<V>(gradients(0, Cell::kGradients + v), work_.gradient_pitch, units, rows, add,
                           args_.dvectors + v * H, rest_vectors(v));
    }

    // dw (units, columns) (+)= gate (units, rows) operand (rows, columns).
    void outer_product(const Real* gate, Index units, const Real* operand, Index columns, Index rows, bool add,
                       Real* dw) const {
        const Panels<V> panels{operand, ceil_div(columns, kLanes), kMaxWidth, rows};
        multiply_into<V>({gate, work_.rows_pitch}, 0, units, panels, columns, add, dw, team_);
    }

    // dx of rows `rows` of the steps from `begin` on.
    void input_gradients(Index begin, Range rows) const {
        constexpr int first = first_input_plane<Cell>();
        const Index I = size_.I;
        const Rows<Real> operand{gradients(0, first), work_.gradient_pitch};
        const Panels<V> panels{tape_.packed_ih, ceil_div(I, kLanes), kMaxWidth, Cell::kGates * size_.H};
        multiply_into<V>(operand, rows.begin, rows.end, panels, I, false, args_.dx + first_row(size_, begin) * I,
                         team_);
    }

    // What the first step sends to the initial states, and, for tokens, the columns of dw_ih.
    void finish() const {
        const Index H = size_.H;
        constexpr Phase phase = Cell::kBackward[0];
        const bool steps = size_.T > 0;
        const Rows<Real> operand{gradients(0, phase.first), work_.gradient_pitch};
        const Range units = recurrent_units(H);
        for (int s = 0; s < Cell::kStates; ++s)
            for (Index b = row_begin_; b < row_end_; ++b)
                copy(work_.carry[s] + b * work_.carry_pitch + units.begin, units.end - units.begin,
                     args_.dstate_0[s] + b * H + units.begin);
        Panels<V> panels = hidden_panels(0);
        if (!steps) panels.depth = 0;
        const Range own = own_panels(panels);
        product<V>(operand, row_begin_, row_end_, panels, {own.begin, own.end},
                   [&](Index first, Index count, Index panel, int width, const Real* sums) {
                       for (Index b = first; b < first + count; ++b) {
                           for (int u = 0; u < width; ++u, sums += kLanes) {
                               const Index unit = (panel * kMaxWidth + u) * kLanes;
                               const Index n = smaller(kLanes, H - unit);
                               Real* const dh0 = args_.dstate_0[kH] + b * H + unit;
                               V sum = V::load(sums);
                               if (const Real* const mask = args_.regularisation.mask)
                                   sum = sum * load_part<V>(mask + b * H + unit, n);
                               store_part(carries_h_ || !steps ? sum + load_part<V>(dh0, n) : sum, dh0, n);
                           }
                       }
                   });
        if (!args_.rest) each_column_sum([&](Real* sums, const Real* rest) { settle(sums, rest, own_units()); });
        if (!size_.D) return;
        if (args_.rest)
            write_tokens(work_.token_rest, rest_w_ih_);
        else
            settle_tokens();
        write_tokens(work_.token_gradient, args_.dw_ih);
    }

    void settle_tokens() const {
        const std::int32_t* const places = rest_places(args_);
        for (Index d = 0; d < size_.D; ++d) {
            const Index place = places ? places[d] : d;
            for (int g = 0; place >= 0 && g < Cell::kGates; ++g)
                settle(work_.token_gradient + d * work_.token_pitch + g * Hp_ + unit_begin_,
                       work_.token_rest + place * work_.token_pitch + g * Hp_ + unit_begin_, own_units());
        }
    }

    static void settle(Real* sums, const Real* rest, Index count) {
        for (Index i = 0; i < count; i += kLanes) {
            const Index n = smaller(kLanes, count - i);
            store_part(load_part<V>(sums + i, n) + load_part<V>(rest + i, n), sums + i, n);
        }
    }

    const BackwardArgs<Real>& args_;
    Team& team_;
    const Sizes size_;
    const Tape<Cell, V> tape_;
    const Workspace work_;
    const bool shares_units_, regularised_, carries_h_, long_steps_;
    const Index Hp_;
    Real *const rest_, *const rest_w_ih_;
    Index row_begin_, row_end_;      // this thread's rows of the batch
    Index panel_begin_, panel_end_;  // its share of the panels of units, in the recurrence
    Index unit_begin_, unit_end_;    // and of the units, before and after it
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
