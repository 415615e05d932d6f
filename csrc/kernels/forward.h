// The forward pass of every cell. The hot loop is run(): for each step, product() over this thread's share of W_hh, and
// the cell's arithmetic on the sums.
#pragma once

#include "tape.h"
#include "weights.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Input rows that are projected at a time: so many that reading W_ih once for them costs little beside writing and
// reading their sums, and for small nets so few that the sums stay in L2.
constexpr Index projected_rows(Index I) { return smaller(larger(144, I / 4), 1024); }

template <template <class> class CellOf, class Real>
class Forward {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    static constexpr Index kLanes = V::kLanes;
    static constexpr int kInputBlocks = blocks_per_panel(Cell::kGates);
    static constexpr Index kGroup = Cell::kGates * kLanes;  // all gates of a block of units
    static constexpr int kGates = most_gates<Cell>();

    // Threads share units by grains: as many blocks as the widest panel of any product of the step.
    static constexpr int grain() {
        int most = kInputBlocks;
        for (const Phase& phase : Cell::kForward)
            if (blocks_per_panel(phase.count) > most) most = blocks_per_panel(phase.count);
        return most;
    }

    struct Workspace {
        Weights<Cell, V> weights;
        Real* panels;  // the panel of W_ih at hand, for each thread, if `weights` has none
        // W_ih x + b_ih of the rows of some steps, or of each token: (panels, rows, blocks of units of the panel, G,
        // lanes), as the product leaves it and a step reads it.
        Real* projected;
        Real* zeros;      // (B, H): h_0, if the caller gave none
        Real* h[2];       // (B, H) each: h after even and odd steps, if the caller wants no y
        Real* masked[2];  // (B, H) each: the same, as W_hh meets it, if there is a mask
        Real* saved;      // (B, saved_pitch) of the step at hand, if there is no tape and a later phase needs it
        Index total;

        Workspace(const ForwardArgs<Real>& args, Real* base)
            : weights(args.size, keeps_ih(args.size, args.packed), args.packed ? args.packed : base) {
            const Sizes& size = args.size;
            const Index H = size.H, threads = args.split.batch_parts * args.split.unit_parts;
            const bool dense = size.D == 0;
            Carver<Real> carver{base, args.packed ? 0 : weights.total};
            panels = carver.take(!dense || keeps_ih(size, args.packed) ? 0 : threads * panel_size(size));
            projected = carver.take((dense ? projected_steps(size) * size.B : size.D) * Cell::kGates * padded<V>(H));
            zeros = carver.take(size.B * H);
            for (Real*& after : h) after = carver.take(args.y ? 0 : size.B * H);
            for (Real*& after : masked) after = carver.take(args.regularisation.mask ? size.B * H : 0);
            saved =
                carver.take(args.tape || Cell::kPhases == 1 ? 0 : size.B * Tape<Cell, V>(size, nullptr).saved_pitch);
            total = carver.used;
        }
    };

    static Index projected_steps(const Sizes& size) {
        return larger(1, smaller(size.T, projected_rows(size.I) / larger(1, size.B)));
    }
    // Where all steps are one block W_ih is gone through once, and a panel packed as it is needed stays in cache:
    // unless the caller keeps it.
    static bool keeps_ih(const Sizes& size, const Real* packed) {
        return size.D == 0 && (packed || size.T > projected_steps(size));
    }
    static Index panel_size(const Sizes& size) {
        return pitch<Real>(FASTRNN_ISA::packed_size<V>(kInputBlocks * kLanes, Cell::kGates, size.I));
    }

public:
    static Index tape_size(const Sizes& size) { return Tape<Cell, V>(size, nullptr).total; }
    static Index packed_size(const Sizes& size) { return Weights<Cell, V>(size, size.D == 0, nullptr).total; }
    static Index workspace_size(const ForwardArgs<Real>& args) { return Workspace(args, nullptr).total; }
    static void run(const ForwardArgs<Real>& args, Team& team) { Forward(args, team).run(); }

private:
    Forward(const ForwardArgs<Real>& args, Team& team)
        : args_(args),
          team_(team),
          size_(args.size),
          training_(args.tape != nullptr),
          shares_units_(args.split.unit_parts > 1),
          regularised_(regularises<Cell>(args.regularisation)),
          long_steps_(has_long_steps<Cell>(args.size)),
          tape_(args.size, args.tape),
          work_(args, args.workspace),
          Hp_(padded<V>(size_.H)) {
        const int unit_part = team.rank() % args.split.unit_parts;
        const Range rows = share(size_.B, team.rank() / args.split.unit_parts, args.split.batch_parts);
        const Range grains = share(ceil_div(Hp_ / kLanes, grain()), unit_part, args.split.unit_parts);
        row_begin_ = rows.begin, row_end_ = rows.end;
        block_begin_ = grains.begin * grain();
        block_end_ = smaller(grains.end * grain(), Hp_ / kLanes);
        // Every thread's rows of `projected` lie together; those of tokens are everyone's.
        projected_rows_ = size_.D ? size_.D : own_rows() * projected_steps(size_);
        projected_ = work_.projected + (size_.D ? 0 : row_begin_ * projected_steps(size_) * Cell::kGates * Hp_);
    }

    void run() {
        if (size_.H * size_.B == 0) return;
        prepare();
        const Index steps = size_.D ? larger(1, size_.T) : projected_steps(size_);
        for (Index begin = 0; begin < size_.T; begin += steps) {
            const Index end = smaller(begin + steps, size_.T);
            if (!size_.D && !projects_late()) {
                project(begin, end);
                if (shares_units_) team_.barrier();
            }
            for (Index t = begin; t < end; ++t) run_phase<0>(t, t - begin);
        }
        finish();
    }

    // Packs, and copies what the tape keeps: everything that threads make for each other before the first step.
    void prepare() {
        const Index B = size_.B, I = size_.I, H = size_.H;
        const int part = team_.rank(), parts = team_.size();
        if (!args_.packed || args_.fills_packed) pack();
        if (size_.D) project_tokens(share(Hp_ / kLanes, part, parts));
        if (part == 0) {
            if (!args_.state_0[kH]) clear(work_.zeros, B * H);
            for (int s = 0; s < Cell::kStates; ++s) {
                if (args_.state_0[s] == args_.state_n[s]) continue;
                if (args_.state_0[s])
                    copy(args_.state_0[s], B * H, args_.state_n[s]);
                else
                    clear(args_.state_n[s], B * H);
            }
            if (const Real* const mask = args_.regularisation.mask)
                for (Index i = 0; i < B * H; ++i) work_.masked[1][i] = before(kH, 0)[i] * mask[i];
        }
        if (training_) {
            if (!size_.D) {
                const Range rows = share(first_row(size_, size_.T), part, parts);
                copy_in_parts(args_.x + rows.begin * I, (rows.end - rows.begin) * I, tape_.x + rows.begin * I);
                pack_gradient(args_.w_ih, H, I, Cell::kInputGradient, first_input_plane<Cell>(), Cell::kGates, 0,
                              tape_.packed_ih);
            }
            if (part == 0 && Cell::kVectors > 0) copy(args_.vectors, Cell::kVectors * H, tape_.vectors);
            for (int p = 0; p < Cell::kPhases; ++p) {
                const Phase phase = Cell::kBackward[p];
                if (phase.operand == kNothing) continue;
                const int first = is_projection<Cell>(phase.first) ? phase.first : 0;
                const HiddenRows<const Real> w = hidden_rows<Cell>(first, size_, args_.w_hh);
                pack_gradient(w.first, w.rows, w.length, Cell::kHiddenGradient, phase.first, phase.count, first,
                              tape_.packed_hh[p]);
            }
        }
        if (parts > 1) team_.barrier();
    }

    void pack() const {
        const Index I = size_.I, H = size_.H;
        const Range grains = share(ceil_div(Hp_ / kLanes, grain()), team_.rank(), team_.size());
        const auto panels = [&](int gates) {
            const int blocks = blocks_per_panel(gates);
            return Range{grains.begin * grain() / blocks,
                         ceil_div(smaller(grains.end * grain(), Hp_ / kLanes), blocks)};
        };
        const Weights<Cell, V>& weights = work_.weights;
        if (keeps_ih(size_, args_.packed)) {
            const Range own = panels(Cell::kGates);
            pack_rows_of(args_.w_ih, H, I, Cell::kGates, own, weights.ih);
        }
        for (int p = 0; p < Cell::kPhases; ++p) {
            const Phase phase = Cell::kForward[p];
            const Range own = panels(phase.count);
            if (phase.operand == kNothing) continue;
            const HiddenRows<const Real> w = hidden_rows<Cell>(phase.first, size_, args_.w_hh);
            pack_rows_of(w.first, w.rows, w.length, phase.count, own, weights.hh[p]);
        }
        if (team_.rank() > 0) return;
        if (Cell::kVectors > 0) copy(args_.vectors, Cell::kVectors * H, weights.vectors);
        fill_bias(args_.b_ih, 0, Cell::kGates, weights.bias_ih);
        for (int p = 0; p < Cell::kPhases; ++p)
            fill_bias(args_.b_hh, Cell::kForward[p].first, Cell::kForward[p].count, weights.bias_hh[p]);
    }

    void pack_rows_of(const Real* w, Index units, Index depth, int gates, Range own, Real* packed) const {
        for (Index panel = own.begin; panel < own.end; ++panel) {
            pack_rows<V>(w, units, Hp_ / kLanes, depth, gates, panel, packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * kLanes * depth));
        }
    }

    void copy_in_parts(const Real* from, Index n, Real* to) const {
        constexpr Index most = Index{1} << 20;
        for (Index begin = 0; begin < n; begin += most) {
            const Index count = smaller(most, n - begin);
            copy(from + begin, count, to + begin);
            team_.poll(kWorkOfMoving * static_cast<double>(count));
        }
    }

    void fill_bias(const Real* bias, int first, int count, Real* filled) const {
        for (Index unit = 0; unit < Hp_; unit += kLanes)
            for (int g = first; g < first + count; ++g, filled += kLanes)
                (bias && g < Cell::kGates ? load_part<V>(bias + g * size_.H + unit, smaller(kLanes, size_.H - unit))
                                          : V::zero())
                    .store(filled);
    }

    // Of the gates with planes first, first + 1, ... of gradients; w, (..., columns), begins with gate `first_gate`.
    template <int gates>
    void pack_gradient(const Real* w, Index units, Index columns, const int (&plane_of)[gates], int first, int count,
                       int first_gate, Real* packed) const {
        int gate[gates];
        gates_in_order(plane_of, first, count, gate);
        for (int i = 0; i < count; ++i) gate[i] -= first_gate;
        const Range own = share(ceil_div(columns, kMaxWidth * kLanes), team_.rank(), team_.size());
        for (Index panel = own.begin; panel < own.end; ++panel) {
            pack_columns<V>(w, columns, units, columns, gate, count, panel, packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * kLanes * count * units));
        }
    }

    // One projected row per distinct token, of blocks [own) of units.
    void project_tokens(Range own) const {
        const Index H = size_.H;
        for (Index block = own.begin; block < own.end; ++block) {
            const Index unit = block * kLanes, n = smaller(kLanes, H - unit);
            for (Index d = 0; d < size_.D; ++d) {
                const Index token = args_.tokens.id[d];
                for (int g = 0; g < Cell::kGates; ++g) {
                    const Index row = g * H + unit;
                    Real column[kLanes] = {};
                    for (Index i = 0; i < n && !args_.transposed_w_ih; ++i)
                        column[i] = args_.w_ih[(row + i) * size_.I + token];
                    const V x = args_.transposed_w_ih ? load_part<V>(args_.w_ih + token * Cell::kGates * H + row, n)
                                                      : V::load(column);
                    const V bias = args_.b_ih ? load_part<V>(args_.b_ih + row, n) : V::zero();
                    (x + bias).store(projected_at(block, d) + g * kLanes);
                }
                if (d % 1024 == 0) team_.poll(kWorkOfMoving * 1024 * Cell::kGates * kLanes);
            }
        }
    }

    Index own_rows() const { return row_end_ - row_begin_; }

    // W_ih, if it is kept, with its biases.
    Panels<V> input_panels() const {
        return {work_.weights.ih, Hp_ / kLanes * Cell::kGates, kInputBlocks * Cell::kGates, size_.I,
                work_.weights.bias_ih};
    }

    // W_ih x + b_ih of this thread's rows in steps [begin, end), in the order (step, row), for the units that it gets.
    void project(Index begin, Index end) const {
        const Index I = size_.I;
        Rows<Real> x{args_.x + first_row(size_, begin) * I, I};
        Index rows = first_row(size_, end) - first_row(size_, begin);
        if (args_.split.batch_parts > 1) {
            x = {x.base + row_begin_ * I, I, larger(1, own_rows()), size_.B * I};
            rows = (end - begin) * own_rows();
        }
        const bool kept = keeps_ih(size_, args_.packed);
        Real* const at_hand = work_.panels + team_.rank() * panel_size(size_);
        const Panels<V> all = input_panels();
        const Turns turns{0, all.count(), false, shares_units_ ? &team_ : nullptr, all.count()};
        for (Index panel, taken = 0; (panel = turns.next(taken)) >= 0; ++taken) {
            const Index first = panel * kInputBlocks;
            const int blocks = static_cast<int>(smaller(kInputBlocks, Hp_ / kLanes - first));
            if (!kept) pack_rows_panel<V>(args_.w_ih, size_.H, I, Cell::kGates, first, blocks, at_hand);
            const Panels<V> one{kept ? all.data + all.offset(panel) : at_hand, blocks * Cell::kGates, all.width, I,
                                all.start_of(panel)};
            for (Index row = 0; row < rows; row += kRowBlock) {
                const RowBlock<Real> block(x, row, rows);
                multiply_block<V>(block, one, 0, 0, false, nullptr, 0, projected_at(first, row));
                team_.poll(2.0 * static_cast<double>(block.count * one.vectors * kLanes * I));
            }
        }
    }

    // Whether each panel of W_hh is followed by the same units' of W_ih. In a stream, whose steps are calls of their
    // own, both are then found in cache where the call before turned round.
    bool projects_late() const { return size_.T == 1 && keeps_ih(size_, args_.packed); }

    // W_ih x + b_ih of rows [first, first + count) of the one step, for blocks [begin, end) of units.
    void project_units(Index first, Index count, Index begin, Index end) const {
        const Panels<V> panels = input_panels();
        product<V>(Rows<Real>{args_.x, size_.I}, first, first + count, panels,
                   Turns{begin / kInputBlocks, ceil_div(end, kInputBlocks)},
                   [&](Index row, Index rows, Index panel, int width, const Real* sums) {
                       const Index each = smaller(panels.width, width) * kLanes;  // of several panels, with one row
                       for (Index i = 0; i * each < width * kLanes; ++i)
                           copy(sums + i * each, rows * each,
                                projected_at((panel + i) * kInputBlocks, row - row_begin_));
                       team_.poll(2.0 * static_cast<double>(rows * width * kLanes * size_.I));
                   });
    }

    // The gates of a block of units in one of this thread's rows of `projected`.
    Real* projected_at(Index block, Index row) const {
        if constexpr (kInputBlocks == 1) return projected_ + (block * projected_rows_ + row) * kGroup;
        const Index in_panel = block % kInputBlocks, first = block - in_panel;
        const Index blocks = smaller(kInputBlocks, Hp_ / kLanes - first);
        return projected_ + (first * projected_rows_ + row * blocks + in_panel) * kGroup;
    }

    // (B, H): state s before and after step t. h lies in y, if there is one, and c where it ends.
    const Real* before(int s, Index t) const {
        if (s == kH && t == 0) return args_.state_0[kH] ? args_.state_0[kH] : work_.zeros;
        return after(s, t - 1);
    }
    Real* after(int s, Index t) const {
        if (s != kH) return args_.state_n[s];
        return args_.y ? args_.y + first_row(size_, t) * size_.H : work_.h[t % 2];
    }

    template <int p>
    void run_phase(Index t, Index place) {
        constexpr Phase phase = Cell::kForward[p];
        constexpr int blocks = blocks_per_panel(phase.count);
        constexpr bool last = p + 1 == Cell::kPhases;
        const Step at = step_at(t, place);
        Rows<Real> operand{args_.regularisation.mask ? work_.masked[(t + 1) % 2] : at.prev[kH], size_.H};
        if constexpr (phase.operand >= 0) operand = {at.saved + phase.operand * Hp_, tape_.saved_pitch};
        const Panels<V> panels{work_.weights.hh[p], Hp_ / kLanes * phase.count, blocks * phase.count,
                               depth_of(phase, size_), work_.weights.bias_hh[p]};

        const bool late = projects_late();
        const Turns turns{block_begin_ / blocks, ceil_div(block_end_, blocks), (t % 2 != 0) != args_.turned,
                          shares_units_ ? &team_ : nullptr, panels.count()};
        product<V>(operand, row_begin_, smaller(row_end_, step_rows(size_, t)), panels, turns,
                   [&](Index first, Index count, Index panel, int width, const Real* sums) {
                       if (long_steps_) team_.poll(work_of_sums(count * width * kLanes, panels.depth));
                       const Index begin = panel * blocks, end = begin + width / phase.count;
                       if constexpr (p == 0) {
                           static_assert(blocks % kInputBlocks == 0);
                           if (late) project_units(first, count, begin, end);
                       }
                       const Index whole = smaller(end, size_.H / kLanes);
                       // Of a single row, the blocks that lie evenly in `projected` are gone through at once.
                       constexpr Index even = kInputBlocks > 1 ? kInputBlocks : PTRDIFF_MAX;
                       for (Index block = begin, n; block < end; block += n) {
                           const bool plain = block < whole && !regularised_;
                           n = count > 1 || !plain ? 1 : smaller(whole - block, even - block % even);
                           const Real* const own = sums + (block - begin) * phase.count * kLanes;
                           const Index sums_row = width * kLanes;
                           if (!plain) {
                               apply_with_care<p>(at, {first, count, block, n}, own, sums_row);
                               continue;
                           }
                           const Index paired = count / 2 * 2;
                           if (paired > 0) apply<p, true, 2>(at, {first, paired, block, n}, own, sums_row);
                           if (paired < count)
                               apply<p, true, 1>(at, {first + paired, 1, block, n}, own + paired * sums_row, sums_row);
                       }
                   });
        // Other threads' units of this phase's results are operands of the next.
        if (shares_units_) team_.barrier();
        if constexpr (p == 0 && Cell::kNormalised > 0) {
            normalise_rows(at, t);
            if (shares_units_) team_.barrier();
        }
        if constexpr (last)
            team_.poll(2.0 * static_cast<double>(own_rows() * size_.H * Cell::kGates * size_.H) /
                       args_.split.unit_parts);
        else
            run_phase<p + 1>(t, place);
    }

    // Where a step finds and leaves what it works on, of row 0 and unit 0.
    struct Step {
        const Real* prev[Cell::kStates];
        Real* next[Cell::kStates];        // h's is y
        Real* first[Cell::kStates];       // where the tape keeps the states before the step; null if it does not
        Real* masked;                     // h as the next step's product takes it; null without a mask
        const Real* keep[Cell::kStates];  // null: all
        Real* saved;
        const std::int32_t* slot;  // (B,): the rows of `projected`; null without tokens: row b's is first_projected + b
        Index first_projected;
    };

    // Step t, in place `place` of its block of steps.
    Step step_at(Index t, Index place) const {
        const Index row = first_row(size_, t), steps = block_steps(size_);
        Step at;
        for (int s = 0; s < Cell::kStates; ++s) {
            at.prev[s] = before(s, t);
            at.next[s] = after(s, t);
            at.first[s] =
                training_ && t % steps == 0 ? tape_.state[s] + t / steps * size_.B * tape_.state_pitch : nullptr;
            at.keep[s] = keep_of(args_.regularisation, s, row);
        }
        at.masked = args_.regularisation.mask ? work_.masked[t % 2] : nullptr;
        at.saved = training_ ? tape_.saved + row * tape_.saved_pitch : work_.saved;
        at.slot = size_.D ? args_.tokens.slot + row : nullptr;
        at.first_projected =
            args_.split.batch_parts > 1 ? place * own_rows() - row_begin_ : row - first_row(size_, t - place);
        return at;
    }

    // The planes of step t that are to be normalised, in this thread's share of the rows.
    void normalise_rows(const Step& at, Index t) const {
        const Index rows = larger(0, smaller(row_end_, step_rows(size_, t)) - row_begin_);
        const Range own = share(rows, team_.rank() % args_.split.unit_parts, args_.split.unit_parts);
        for (Index row = row_begin_ + own.begin; row < row_begin_ + own.end; ++row)
            for (int i = 0; i < Cell::kNormalised; ++i) {
                const Real scale =
                    normalise<V>(at.saved + row * tape_.saved_pitch + (Cell::kFirstNormalised + i) * Hp_, size_.H);
                if (training_) tape_.scale[(first_row(size_, t) + row) * Cell::kNormalised + i] = scale;
            }
    }

    // The cell's arithmetic on one block of units of some rows, whose sums are `sums_row` apart, or on some blocks of
    // one row, whose sums lie side by side.
    // `plain`: whole blocks, and nothing of Regularisation. `at_once`: that many rows side by side, 1 or 2.
    template <int p, bool plain, int at_once>
    void apply(const Step& at, const Blocks& blocks, const Real* sums, Index sums_row) const {
        static_assert(at_once == 1 || plain);
        constexpr Phase phase = Cell::kForward[p];
        constexpr bool last = p + 1 == Cell::kPhases;
        const Index H = size_.H, row = blocks.row, unit = blocks.block * kLanes,
                    n = plain ? kLanes : smaller(kLanes, H - unit);
        const bool training = training_, is_first = at.first[kH], along_units = at_once == 1 && blocks.blocks > 1;
        const Real* const projected = projected_at(blocks.block, 0);
        const Index projected_pitch = projected_at(blocks.block, 1) - projected;
        // All that moves on, in variables of its own: a store of a vector might change any member.
        const std::int32_t* slot = at.slot ? at.slot + row : nullptr;
        const Real* inputs = projected + (slot ? slot[0] : at.first_projected + row) * projected_pitch;
        Real* saved = at.saved + row * tape_.saved_pitch + unit;
        const Real* prev[Cell::kStates];
        Real *after[Cell::kStates], *tape[Cell::kStates];
        for (int s = 0; s < Cell::kStates; ++s) {
            prev[s] = at.prev[s] + row * H + unit;
            after[s] = at.next[s] + row * H + unit;
            tape[s] = at.first[s] + (is_first ? row * tape_.state_pitch + unit : 0);
        }
        const auto step = [&](Index from_row_to_row) { return along_units ? kLanes : from_row_to_row; };
        const Index sums_step = along_units ? phase.count * kLanes : sums_row;
        const Index inputs_step = along_units ? projected_at(blocks.block + 1, 0) - projected : projected_pitch;
        const Real* vectors = work_.weights.vectors + unit;
        const Index saved_step = step(tape_.saved_pitch), state_step = step(H), vector_step = step(0),
                    tape_step = is_first ? step(tape_.state_pitch) : 0;
        const Index Hp = Hp_, count = along_units ? blocks.blocks : blocks.rows;

        using Some = RowsAtOnce<V, at_once>;
        using W = typename Some::Vector;
        for (Index b = 0;; b += at_once) {
            W x[kGates], hidden[kGates], state[Cell::kStates], kept[Cell::kSaved], next[Cell::kStates];
            W own[at_least_one(Cell::kVectors)];
            const Index to_second = at_once > 1 && slot ? (slot[b + 1] - slot[b]) * projected_pitch : inputs_step;
            for (int g = phase.first; g < phase.first + phase.count; ++g) {
                if (g < Cell::kGates) x[g] = Some::load(inputs + g * kLanes, to_second, kLanes);
                hidden[g] = Some::load(sums + (g - phase.first) * kLanes, sums_step, kLanes);
            }
            for (int s = 0; s < Cell::kStates; ++s) state[s] = Some::load(prev[s], state_step, n);
            for (int v = 0; v < Cell::kVectors; ++v) own[v] = Some::load(vectors + v * H, vector_step, n);
            if constexpr (p > 0)
                for (int s = 0; s < Cell::kSaved; ++s) kept[s] = Some::load(saved + s * Hp, saved_step, kLanes);

            CellOf<W>::template forward<p>(x, hidden, state, own, kept, next);

            if constexpr (!plain) regularise<p>(at, {row + b, 1, blocks.block, 1}, n, state, kept, next);
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

    // What zoneout and the mask make of what phase p gave for one block of units of one row.
    template <int p>
    FASTRNN_INLINE void regularise(const Step& at, const Blocks& blocks, Index n, const V* state, V* kept,
                                   V* next) const {
        const Index unit = blocks.block * kLanes, place = blocks.row * size_.H + unit;
        const Real* const mask = args_.regularisation.mask;
        if constexpr (p + 1 == Cell::kPhases) {
            for (int s = 0; s < Cell::kStates; ++s)
                if (const Real* const keep = at.keep[s])
                    next[s] = zoned_out(load_part<V>(keep + blocks.row * args_.regularisation.keep_pitch + unit, n),
                                        state[s], next[s]);
            if (mask) store_part(next[kH] * load_part<V>(mask + place, n), at.masked + place, n);
        } else if constexpr (Cell::kMaskedPlane >= 0) {
            if (mask) kept[Cell::kMaskedPlane] = kept[Cell::kMaskedPlane] * load_part<V>(mask + place, n);
        }
    }

    template <int p>
    FASTRNN_NOINLINE void apply_with_care(const Step& at, const Blocks& blocks, const Real* sums,
                                          Index sums_row) const {
        apply<p, false, 1>(at, blocks, sums, sums_row);
    }

    // h_n is the last that y has of each row. Units of a row may come from several threads: the barrier has passed.
    void finish() const {
        if (team_.rank() % args_.split.unit_parts != 0) return;
        Index row = row_begin_;
        for (Index t = size_.T; t > 0 && row < row_end_; --t) {
            const Index end = smaller(row_end_, step_rows(size_, t - 1));
            if (end <= row) continue;
            copy(before(kH, t) + row * size_.H, (end - row) * size_.H, args_.state_n[kH] + row * size_.H);
            row = end;
        }
    }

    const ForwardArgs<Real>& args_;
    Team& team_;
    const Sizes size_;
    const bool training_, shares_units_, regularised_, long_steps_;
    const Tape<Cell, V> tape_;
    const Workspace work_;
    const Index Hp_;
    Index row_begin_, row_end_;      // this thread's rows of the batch
    Index block_begin_, block_end_;  // and its blocks of units
    Real* projected_;                // what it needs of `projected`
    Index projected_rows_;
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
