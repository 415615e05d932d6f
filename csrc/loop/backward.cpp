// The backward pass of every cell, facing forward.cpp. The hot loop is run(): for each step from the last, multiply()
// of the next step's gate gradients with this thread's columns of W_hh, and the cell's gradient arithmetic on the sums.
// Weight gradients and dx follow by blocks of steps, while the block's gate gradients are in cache.
#include "loop.h"
#include "tape.h"

namespace fastrnn {
namespace {

// How many tokens have a rest, and where it is; negative: nowhere.
template <class Real>
const std::int32_t* rest_places(const BackwardArgs<Real>& args) {
    return args.rest ? nullptr : args.tokens.frequent_place;
}
template <class Real>
Index rest_count(const BackwardArgs<Real>& args) {
    return rest_places(args) ? args.tokens.frequent : args.size.D;
}

template <class Real>
struct Workspace {
    Index gradient_pitch, carry_pitch, token_pitch, rows_pitch;
    Real* gradient;  // (block steps * B, gradient_pitch): `gradients` planes of H, and those of learned vectors
    Real* state[kMaxStates] = {};  // (block steps * B, state_pitch of the tape): before each step
    Real* carry[kMaxStates] = {};  // (B, carry_pitch): what reaches the step before past the gates
    Real* token_gradient;          // (D, token_pitch): the gradient of each distinct token's column of w_ih
    Real* token_rest;              // (.., token_pitch): what rounding left out of those of frequent tokens, or of all
    Real* rest;                    // (2 * G + L, H): likewise of db_ih, db_hh and dvectors, if the caller keeps none
    // For the weight gradients of a block of steps, whose k are its rows: what the gates were multiplied with, as
    // panels, and each thread's gradients of some units, transposed.
    Real* packed_x;                    // absent with tokens
    Real* packed_h[kMostPhases] = {};  // of each phase of forward
    Real* transposed;                  // (kRowBlock, rows_pitch) of each thread
    Index transposed_size;             // from one to the next
    Index total;

    Workspace(const Kernels<Real>& kernels, const CellShape& shape, const BackwardArgs<Real>& args, Real* base) {
        const Sizes& size = args.size;
        const Index rows = block_steps(size) * size.B, threads = args.split.batch_parts * args.split.unit_parts;
        const auto columns_size = kernels.columns->packed_size;
        gradient_pitch = pitch<Real>((shape.gradients + shape.learned) * size.H);
        carry_pitch = pitch<Real>(size.H);
        token_pitch = pitch<Real>(shape.gates * padded(kernels, size.H));
        rows_pitch = pitch<Real>(rows);
        Carver<Real> carver{base};
        gradient = carver.take(rows * gradient_pitch);
        for (int s = 0; s < shape.states; ++s) state[s] = carver.take(rows * pitch<Real>(size.H));
        for (int s = 0; s < shape.states; ++s) carry[s] = carver.take(size.B * carry_pitch);
        token_gradient = carver.take(size.D * token_pitch);
        token_rest = carver.take(rest_count(args) * token_pitch);
        rest = carver.take((2 * shape.gates + shape.learned) * size.H);
        packed_x = carver.take(size.D ? 0 : columns_size(size.I, rows));
        for (int p = 0; p < shape.phases; ++p)
            packed_h[p] = carver.take(shape.forward[p].operand == kNothing ? 0 : columns_size(size.H, rows));
        transposed_size = kRowBlock * rows_pitch + threads_apart<Real>(threads);
        transposed = carver.take(threads * transposed_size);
        total = carver.used;
    }
};

template <class Real>
class Backward {
public:
    Backward(const Net<Real>& net, const BackwardArgs<Real>& args, Team& team)
        : kernels_(net.kernels),
          product_(net.product(WeightFormat::plain)),
          columns_(*net.kernels.columns),
          arrays_(*net.kernels.arrays),
          cell_(net.backward()),
          shape_(net.shape()),
          args_(args),
          team_(team),
          size_(args.size),
          // The tape is only read; Tape names its pieces for both passes.
          tape_(kernels_, shape_, args.size, WeightFormat::plain, const_cast<Real*>(args.tape)),
          work_(kernels_, shape_, args, args.workspace),
          shares_units_(args.split.unit_parts > 1),
          regularised_(regularises(shape_, args.regularisation)),
          carries_h_(shape_.carries_h || args.regularisation.keep[kH]),
          long_steps_(has_long_steps(shape_, args.size)),
          lanes_(1 << kernels_.lanes_log2),
          Hp_(padded(kernels_, size_.H)),
          whole_blocks_(size_.H >> kernels_.lanes_log2),
          // A second phase may have nothing to do backward.
          phases_(shape_.phases > 1 && shape_.backward[1].writes == 0 ? 1 : shape_.phases),
          rest_(args.rest ? args.rest : work_.rest),
          rest_w_ih_(rest_ + (2 * shape_.gates + shape_.learned) * size_.H) {
        run_.H = size_.H, run_.Hp = Hp_;
        run_.saved_pitch = tape_.saved_pitch, run_.state_pitch = tape_.state_pitch;
        run_.gradient_pitch = work_.gradient_pitch, run_.carry_pitch = work_.carry_pitch;
        run_.keep_pitch = args.regularisation.keep_pitch;
        for (int s = 0; s < kMaxStates; ++s) run_.carry[s] = work_.carry[s];
        run_.vectors = tape_.vectors, run_.options = args.options, run_.mask = args.regularisation.mask;
        run_.carries_h = carries_h_;
    }

    void run() {
        const Index steps = block_steps(size_);
        in_shares_of_units([&](Range units) { start(units); });
        if (team_.rank() == 0) carry_last_states();
        Index end = size_.B > 0 ? size_.T : 0;
        const auto begin_of_block = [&] { return end > 0 ? (end - 1) / steps * steps : 0; };
        while (end > 0) {
            const Index begin = begin_of_block();
            team_.barrier();
            in_parts([&](Range rows, Range units) {
                restore(begin, end, rows, units);
                if (!shares_units_) recurrence(begin, end, rows);
            });
            team_.barrier();
            if (shares_units_) recurrence(begin, end, {0, size_.B});
            if (args_.regularisation.mask) {
                in_parts([&](Range rows, Range units) { mask_states(begin, end, rows, units); });
                team_.barrier();
            }
            in_shares([&](Index part) { pack_operands(begin, end, part); });
            team_.barrier();
            gradients_of_block(begin, end);
            end = begin;
        }
        team_.barrier();
        in_parts([&](Range rows, Range units) { first_states(rows, units); });
        team_.barrier();
        in_shares_of_units([&](Range units) { finish(units); });
    }

private:
    // Calls use(part) for each of as many parts as there are members: a round of its own.
    template <class Use>
    void in_shares(const Use& use) {
        for (Index part; (part = team_.claim(team_.size())) >= 0;) use(part);
    }
    // The same for units, by whole vectors.
    template <class Use>
    void in_shares_of_units(const Use& use) {
        in_shares([&](Index part) {
            const Range blocks = share(Hp_ >> kernels_.lanes_log2, part, team_.size());
            use({blocks.begin * lanes_, smaller(blocks.end * lanes_, size_.H)});
        });
    }
    // Calls use(rows, units) for parts of both, by whole panels, as threads share the recurrence.
    template <class Use>
    void in_parts(const Use& use) {
        const Index panels = ceil_div(Hp_ >> kernels_.lanes_log2, kMaxWidth);
        in_shares([&](Index part) {
            const Range own = share(panels, part % args_.split.unit_parts, args_.split.unit_parts);
            if (own.begin == own.end) return;
            use(share(size_.B, part / args_.split.unit_parts, args_.split.batch_parts),
                {own.begin * kMaxWidth * lanes_, smaller(own.end * kMaxWidth * lanes_, Hp_)});
        });
    }
    static Index length(Range range) { return larger(0, range.end - range.begin); }

    // Panels for the sums of so many columns.
    Panels<Real> column_panels(const Real* packed, Index columns, Index depth) const {
        return {packed, shift_up(columns, kernels_.lanes_log2), kMaxWidth, depth};
    }

    // What the sums of phase p are made of. With a projection they are for the units of h alone: there may be fewer
    // panels than those of all units.
    Panels<Real> hidden_panels(int p) const {
        const Phase phase = shape_.backward[p];
        return column_panels(tape_.packed_hh[p], units_of(phase, size_), gradient_depth(shape_, phase, size_));
    }

    // The gradient of the last states is what is carried into the last step.
    void carry_last_states() const {
        for (int s = 0; s < shape_.states; ++s) {
            for (Index b = 0; b < size_.B; ++b) {
                Real* const carry = work_.carry[s] + b * work_.carry_pitch;
                if (args_.dstate_n[s])
                    copy(args_.dstate_n[s] + b * size_.H, size_.H, carry);
                else
                    clear(carry, size_.H);
            }
        }
    }

    // With no step, weights have no gradient.
    void start(Range units) const {
        const auto clear_rows = [&](Real* rows, Index count) {
            for (Index row = 0; row < count; ++row)
                for (int g = 0; g < shape_.gates; ++g)
                    clear(rows + row * work_.token_pitch + g * Hp_ + units.begin, length(units));
        };
        clear_rows(work_.token_gradient, size_.D);
        clear_rows(work_.token_rest, rest_count(args_));
        if (args_.adds) {
            read_tokens(units, args_.dw_ih, work_.token_gradient);
            read_tokens(units, rest_w_ih_, work_.token_rest);
        }
        if (size_.T * size_.B > 0 || args_.adds) return;
        for (int g = 0; g < shape_.gates; ++g)
            clear(args_.dw_ih + (g * size_.H + units.begin) * size_.I, length(units) * size_.I);
        each_column_sum(units, [&](Real* sums, Real* rest) { clear(sums, length(units)), clear(rest, length(units)); });
        for (int g = 0; args_.dw_hh && g < shape_.recurrent; ++g) {
            const HiddenRows dw = hidden_rows(shape_, g, size_);
            const Index end = smaller(units.end, dw.rows);
            clear(args_.dw_hh + dw.number + units.begin * dw.length, larger(0, end - units.begin) * dw.length);
        }
    }

    // Calls use(sums, rest) for these units of each gate's biases, and of each learned vector.
    template <class Use>
    void each_column_sum(Range units, const Use& use) const {
        const Index H = size_.H;
        for (int g = 0; g < shape_.gates; ++g) {
            use(args_.db_ih + g * H + units.begin, rest_b_ih(g) + units.begin);
            use(args_.db_hh + g * H + units.begin, rest_b_hh(g) + units.begin);
        }
        for (int v = 0; v < shape_.learned; ++v)
            use(args_.dvectors + v * H + units.begin, rest_vectors(v) + units.begin);
    }

    // Between rows (D, token_pitch), one for each distinct token, and the columns of w (G*H, I) that are theirs, of
    // these units. A row of w at a time: so it is found in cache where it has just been cleared.
    void read_tokens(Range units, const Real* w, Real* rows) const {
        each_row_of_w(units, [&](Index row, Index column) {
            for (Index d = 0; d < size_.D; ++d)
                rows[d * work_.token_pitch + column] = w[row * size_.I + args_.tokens.id[d]];
        });
    }
    void write_tokens(Range units, const Real* rows, Real* w) const {
        each_row_of_w(units, [&](Index row, Index column) {
            if (!args_.adds) clear(w + row * size_.I, size_.I);
            for (Index d = 0; d < size_.D; ++d)
                w[row * size_.I + args_.tokens.id[d]] = rows[d * work_.token_pitch + column];
        });
    }
    template <class Use>
    void each_row_of_w(Range units, const Use& use) const {
        for (int g = 0; g < shape_.gates; ++g)
            for (Index unit = units.begin; unit < units.end; ++unit) {
                use(g * size_.H + unit, g * Hp_ + unit);
                team_.poll(kWorkOfMoving * static_cast<double>(size_.I + size_.D));
            }
    }

    // What rounding left out of the sums of gate g, and of vector v: (H,) each.
    Real* rest_b_ih(int g) const { return rest_ + g * size_.H; }
    Real* rest_b_hh(int g) const { return rest_ + (shape_.gates + g) * size_.H; }
    Real* rest_vectors(int v) const { return rest_ + (2 * shape_.gates + v) * size_.H; }

    // Row `row` of state s in the block at hand: before its step.
    Real* state(int s, Index row) const { return work_.state[s] + row * tape_.state_pitch; }

    // The states of these rows and units in steps [begin, end), which are a block.
    void restore(Index begin, Index end, Range rows, Range units) const {
        const Index first = begin / block_steps(size_) * size_.B;
        for (int s = 0; s < shape_.states; ++s)
            for (Index b = rows.begin; b < smaller(rows.end, step_rows(size_, begin)); ++b)
                copy(tape_.state[s] + (first + b) * tape_.state_pitch + units.begin, units.end - units.begin,
                     state(s, b) + units.begin);
        for (Index t = begin; t + 1 < end; ++t) {
            const Index row = first_row(size_, t), from = row - first_row(size_, begin),
                        to = from + step_rows(size_, t);
            for (Index b = rows.begin; b < smaller(rows.end, step_rows(size_, t + 1)); ++b) {
                RestoredRow<Real> at;
                at.saved = tape_.saved + (row + b) * tape_.saved_pitch;
                for (int s = 0; s < shape_.states; ++s) {
                    at.before[s] = state(s, from + b), at.after[s] = state(s, to + b);
                    at.keep[s] = keep_of(args_.regularisation, s, row + b);
                }
                cell_.restore(at, size_.H, tape_.vectors, args_.options, units.begin, units.end);
            }
        }
    }

    // The restored h of these rows and units, as W_hh met it: the cell's arithmetic is through with them.
    void mask_states(Index begin, Index end, Range rows, Range units) const {
        for (Index t = begin; t < end; ++t)
            for (Index b = rows.begin; b < smaller(rows.end, step_rows(size_, t)); ++b) {
                Real* const h = state(kH, first_row(size_, t) - first_row(size_, begin) + b);
                const Real* const mask = args_.regularisation.mask + b * size_.H;
                for (Index u = units.begin; u < smaller(units.end, size_.H); ++u) h[u] = h[u] * mask[u];
            }
    }

    // Plane `plane` of the gate gradients from row `row` of the block on.
    Real* gradients(Index row, int plane) const {
        return work_.gradient + row * work_.gradient_pitch + plane * size_.H;
    }

    // The gate gradients of steps [begin, end), which are a block: of all rows with the others, if threads share units.
    void recurrence(Index begin, Index end, Range rows) {
        for (Index t = end - 1; t >= begin; --t)
            for (int p = 0; p < phases_; ++p) {
                run_phase(p, t, begin, end, rows);
                if (shares_units_) team_.barrier();
                if (p > 0 || shape_.normalised == 0) continue;
                normalise_gradients(t, begin, rows);
                if (shares_units_) team_.barrier();
            }
    }

    void run_phase(int p, Index t, Index begin, Index end, Range rows) {
        if (shares_units_ && !team_.present()) return;
        const Phase phase = shape_.backward[p];
        const auto cell = cell_.phase[p];
        const Index H = size_.H;
        const Index block_row = first_row(size_, begin);
        const auto own_rows_end = [&](Index step) {
            return larger(rows.begin, smaller(rows.end, step_rows(size_, step)));
        };
        // The step after a block's last is the first of the block after it, still in the first place. It may have fewer
        // rows, none at the end: what the others get from later steps is what was carried into them from outside.
        const Index source = phase.operand == kSameGradients ? t : t + 1;
        const Index from_later = own_rows_end(source), row_end = own_rows_end(t);
        const Rows<Real> operand{gradients(source < end ? first_row(size_, source) - block_row : 0, phase.first),
                                 work_.gradient_pitch};
        const Panels<Real> panels = hidden_panels(p);
        BackwardStep<Real> at = step_at(t, first_row(size_, t) - block_row);
        const auto epilogue = [&](Index first, Index count, Index panel, int width, const Real* sums) {
            if (long_steps_) team_.poll(work_of_sums(count * width * lanes_, panels.depth));
            const Index past = panel * kMaxWidth + width, whole = smaller(past, whole_blocks_);
            for (Index block = panel * kMaxWidth, n; block < past; block += n, sums += n * lanes_) {
                const bool plain = block < whole && !regularised_;
                n = count > 1 || !plain ? 1 : whole - block;
                const Index times = larger(count, n), sums_row = n > 1 ? 0 : width * lanes_;
                (plain ? cell.plain : cell.careful)(at, first, block, times, sums, sums_row);
            }
        };
        Touched<Real> touched;
        touched.count = 0;
        if (from_later - rows.begin > 1) {
            const auto add = [&](const Real* first, Index row) { touched.array[touched.count++] = {first, row}; };
            if (at.dy) add(at.dy, H);
            for (int s = 0; s < shape_.saved; ++s) add(at.saved + s * Hp_, tape_.saved_pitch);
        }
        const auto take = [&](Range own, const Turns& turns) {
            const Index later = larger(own.begin, smaller(own.end, from_later));
            multiply(product_, operand, own.begin, later, panels, turns, epilogue, &touched);
            if (later == own.end) return;
            at.adds_carry = true;
            Panels<Real> nothing = panels;
            nothing.depth = 0;
            multiply(product_, operand, later, own.end, nothing, {turns.begin, turns.end}, epilogue);
            at.adds_carry = carries_h_;
        };
        const Index all = panel_count(panels), parts = args_.split.batch_parts;
        const bool backwards = t % 2 != 0;
        if (!shares_units_) {
            take({rows.begin, row_end}, {0, all, backwards});
        } else if (parts == 1 && from_later == row_end) {
            const Range own = share(all, team_.rank(), team_.size());
            take({rows.begin, row_end}, {own.begin, own.end, backwards, &team_, all});
        } else {
            for (Index piece; (piece = team_.claim(parts * all, backwards)) >= 0;)
                take(share(row_end, piece / all, parts), {piece % all, piece % all + 1});
        }
        if (p + 1 == phases_)
            team_.poll(work_of_sums((row_end - rows.begin) * H, shape_.gates * H) / args_.split.unit_parts);
    }

    // Step t, whose rows come in its block of steps from row `place` on.
    BackwardStep<Real> step_at(Index t, Index place) const {
        const Index row = first_row(size_, t);
        BackwardStep<Real> at;
        at.run = &run_;
        for (int s = 0; s < shape_.states; ++s) {
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

    // The gradients by what was normalised in step t become those by the sums.
    void normalise_gradients(Index t, Index begin, Range rows) const {
        const BackwardStep<Real> at = step_at(t, first_row(size_, t) - first_row(size_, begin));
        const Index all = larger(0, smaller(rows.end, step_rows(size_, t)) - rows.begin);
        const Turns turns{0, all, false, shares_units_ ? &team_ : nullptr, all};
        for (Index own, taken = 0; (own = next_panel(turns, taken)) >= 0; ++taken) {
            const Index row = rows.begin + own;
            for (int i = 0; i < shape_.normalised; ++i)
                arrays_.normalise_gradient(at.saved + row * tape_.saved_pitch + (shape_.first_normalised + i) * Hp_,
                                           tape_.scale[(first_row(size_, t) + row) * shape_.normalised + i], size_.H,
                                           at.gradient + row * work_.gradient_pitch + i * size_.H);
        }
    }

    // What the weights were multiplied with in steps [begin, end), for everyone's weight gradients.
    void pack_operands(Index begin, Index end, Index part) const {
        const Index first = first_row(size_, begin), rows = first_row(size_, end) - first;
        if (!size_.D) pack_operand(part, tape_.x + first * size_.I, size_.I, rows, size_.I, work_.packed_x);
        for (int p = 0; p < shape_.phases; ++p) {
            const int plane = shape_.forward[p].operand;
            if (plane == kNothing) continue;
            if (plane == kPreviousH)
                pack_operand(part, state(kH, 0), tape_.state_pitch, rows, units_of_h(size_), work_.packed_h[p]);
            else
                pack_operand(part, tape_.saved + first * tape_.saved_pitch + plane * Hp_, tape_.saved_pitch, rows,
                             size_.H, work_.packed_h[p]);
        }
    }

    void pack_operand(Index part, const Real* operand, Index operand_pitch, Index rows, Index columns,
                      Real* packed) const {
        constexpr int whole[] = {0};
        const Range own = share(ceil_div(columns, kMaxWidth * lanes_), part, team_.size());
        for (Index panel = own.begin; panel < own.end; ++panel) {
            columns_.pack(operand, operand_pitch, rows, columns, whole, 1, panel, packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * lanes_ * rows));
        }
    }

    // All gradients that steps [begin, end) give and the steps before them do not need, in pieces: those of the weights
    // of some units of a gate, and those of some rows of x.
    void gradients_of_block(Index begin, Index end) {
        const Index blocks = ceil_div(size_.H, kRowBlock), weights = larger(shape_.gates, shape_.recurrent) * blocks;
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
        const bool has_input = g < shape_.gates;
        const Real* const dx_gate = has_input ? gradients(0, shape_.input_gradient[g]) : nullptr;
        const Real* const dh_gate = gradients(0, shape_.hidden_gradient[g]);
        Real* const transposed = work_.transposed + team_.rank() * work_.transposed_size;

        if (has_input) {
            arrays_.transpose(dx_gate + units.begin, work_.gradient_pitch, rows, count, transposed, work_.rows_pitch);
            if (size_.D)
                arrays_.token_sums(dx_gate, work_.gradient_pitch, units, args_.tokens.slot + first_row(size_, begin),
                                   rows, work_.token_gradient + g * Hp_, rest_places(args_), work_.token_rest + g * Hp_,
                                   work_.token_pitch);
            else
                outer_product(transposed, count, work_.packed_x, I, rows, add, args_.dw_ih + (g * H + units.begin) * I);
            arrays_.column_sums(dx_gate, work_.gradient_pitch, units, rows, add, args_.db_ih + g * H, rest_b_ih(g));
        }

        if (dh_gate != dx_gate)
            arrays_.transpose(dh_gate + units.begin, work_.gradient_pitch, rows, count, transposed, work_.rows_pitch);
        int phase = 0;
        while (g >= shape_.forward[phase].first + shape_.forward[phase].count) ++phase;
        if (shape_.forward[phase].operand != kNothing) {
            const HiddenRows dw = hidden_rows(shape_, g, size_);
            outer_product(transposed, smaller(count, larger(0, dw.rows - units.begin)), work_.packed_h[phase],
                          dw.length, rows, add, args_.dw_hh + dw.number + units.begin * dw.length);
        }
        if (has_input)
            arrays_.column_sums(dh_gate, work_.gradient_pitch, units, rows, add, args_.db_hh + g * H, rest_b_hh(g));

        for (int v = 0; g == 0 && v < shape_.learned; ++v)
            arrays_.column_sums(gradients(0, shape_.gradients + v), work_.gradient_pitch, units, rows, add,
                                args_.dvectors + v * H, rest_vectors(v));
    }

    // dw (units, columns) (+)= gate (units, rows) operand (rows, columns).
    void outer_product(const Real* gate, Index units, const Real* operand, Index columns, Index rows, bool add,
                       Real* dw) const {
        columns_.multiply_into({gate, work_.rows_pitch}, 0, units, column_panels(operand, columns, rows), columns, add,
                               dw, team_);
    }

    // dx of rows `rows` of the steps from `begin` on.
    void input_gradients(Index begin, Range rows) const {
        const Index I = size_.I;
        const Rows<Real> operand{gradients(0, first_input_plane(shape_)), work_.gradient_pitch};
        const Panels<Real> panels = column_panels(tape_.packed_ih, I, shape_.gates * size_.H);
        columns_.multiply_into(operand, rows.begin, rows.end, panels, I, false, args_.dx + first_row(size_, begin) * I,
                               team_);
    }

    // What the first step sends to these rows and units of the initial states.
    void first_states(Range rows, Range units) const {
        const Index H = size_.H, n = smaller(units.end, H) - units.begin;
        const Phase phase = shape_.backward[0];
        const bool steps = size_.T > 0;
        const Rows<Real> operand{gradients(0, phase.first), work_.gradient_pitch};
        for (int s = 0; s < shape_.states; ++s)
            for (Index b = rows.begin; b < rows.end; ++b)
                copy(work_.carry[s] + b * work_.carry_pitch + units.begin, n, args_.dstate_0[s] + b * H + units.begin);
        Panels<Real> panels = hidden_panels(0);
        if (!steps) panels.depth = 0;
        const Index of_panel = kMaxWidth * lanes_;
        const Range own = {smaller(units.begin / of_panel, panel_count(panels)),
                           smaller(ceil_div(units.end, of_panel), panel_count(panels))};
        const bool adds = carries_h_ || !steps;
        multiply(product_, operand, rows.begin, rows.end, panels, {own.begin, own.end},
                 [&](Index first, Index count, Index panel, int width, const Real* sums) {
                     const Index unit = panel * kMaxWidth * lanes_, n = smaller(width * lanes_, H - unit);
                     for (Index b = first; b < first + count; ++b, sums += width * lanes_) {
                         Real* const dh0 = args_.dstate_0[kH] + b * H + unit;
                         const Real* const mask =
                             args_.regularisation.mask ? args_.regularisation.mask + b * H + unit : nullptr;
                         for (Index u = 0; u < n; ++u) {
                             const Real sum = mask ? sums[u] * mask[u] : sums[u];
                             dh0[u] = adds ? sum + dh0[u] : sum;
                         }
                     }
                 });
    }

    // Adds what rounding left out of the sums of these units, and writes, for tokens, the columns of dw_ih.
    void finish(Range units) const {
        if (!args_.rest)
            each_column_sum(units, [&](Real* sums, const Real* rest) { settle(sums, rest, length(units)); });
        if (!size_.D) return;
        if (args_.rest)
            write_tokens(units, work_.token_rest, rest_w_ih_);
        else
            settle_tokens(units);
        write_tokens(units, work_.token_gradient, args_.dw_ih);
    }

    void settle_tokens(Range units) const {
        const std::int32_t* const places = rest_places(args_);
        for (Index d = 0; d < size_.D; ++d) {
            const Index place = places ? places[d] : d;
            for (int g = 0; place >= 0 && g < shape_.gates; ++g)
                settle(work_.token_gradient + d * work_.token_pitch + g * Hp_ + units.begin,
                       work_.token_rest + place * work_.token_pitch + g * Hp_ + units.begin, length(units));
        }
    }

    static void settle(Real* sums, const Real* rest, Index n) {
        for (Index i = 0; i < n; ++i) sums[i] += rest[i];
    }

    const Kernels<Real>& kernels_;
    const ProductKernels<Real>& product_;
    const ColumnKernels<Real>& columns_;
    const ArrayKernels<Real>& arrays_;
    const BackwardCell<Real>& cell_;
    const CellShape& shape_;
    const BackwardArgs<Real>& args_;
    Team& team_;
    const Sizes size_;
    const Tape<Real> tape_;
    const Workspace<Real> work_;
    const bool shares_units_, regularised_, carries_h_, long_steps_;
    const Index lanes_, Hp_, whole_blocks_;
    const int phases_;
    Real *const rest_, *const rest_w_ih_;
    BackwardRun<Real> run_;
};

}  // namespace

template <class Real>
Index workspace_size(const Net<Real>& net, const BackwardArgs<Real>& args) {
    return Workspace<Real>(net.kernels, net.shape(), args, nullptr).total;
}

template <class Real>
void backward(const Net<Real>& net, const BackwardArgs<Real>& args, Team& team) {
    Backward<Real>(net, args, team).run();
}

#define FASTRNN_INSTANTIATE(Real)                                               \
    template Index workspace_size(const Net<Real>&, const BackwardArgs<Real>&); \
    template void backward(const Net<Real>&, const BackwardArgs<Real>&, Team&);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)
#undef FASTRNN_INSTANTIATE

}  // namespace fastrnn
