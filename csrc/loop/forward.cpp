// The forward pass of every cell. The hot loop is run(): for each step, multiply() over this thread's share of W_hh,
// and the cell's arithmetic on the sums.
#include "loop.h"
#include "tape.h"
#include "weights.h"

namespace fastrnn {
namespace {

// Input rows that are projected at a time: so many that reading W_ih once for them costs little beside writing and
// reading their sums, and for small nets so few that the sums stay in L2.
constexpr Index projected_rows(Index I) { return smaller(larger(144, I / 4), 1024); }

Index projected_steps(const Sizes& size) {
    return larger(1, smaller(size.T, projected_rows(size.I) / larger(1, size.B)));
}

// width / count, of at most 16 vectors and kMostPlanes gates: a division would take as long as the arithmetic of a row.
constexpr int quotient(int width, int count) {
    constexpr int inverse[kMostPlanes + 1] = {0, 256, 128, 86, 64, 52};
    return width * inverse[count] >> 8;
}

template <class Real>
struct Workspace {
    Index steps;    // whose inputs are projected at a time
    bool keeps_ih;  // whether `weights` has W_ih
    Weights<Real> weights;
    Real* panels;  // the panel of W_ih at hand, for each thread, if `weights` has none
    Index panel_size;
    // W_ih x + b_ih of the rows of some steps, or of each token: see projected_offset().
    Real* projected;
    Real* zeros;      // (B, H): h_0, if the caller gave none
    Real* h[2];       // (B, H) each: h after even and odd steps, if the caller wants no y
    Real* masked[2];  // (B, H) each: the same, as W_hh meets it, if there is a mask
    Real* saved;      // (B, saved_pitch) of the step at hand, if there is no tape and a later phase needs it
    Index total;

    // Where all steps are one block W_ih is gone through once, and a panel packed as it is needed stays in cache:
    // unless the caller keeps it.
    Workspace(const Net<Real>& net, const ForwardArgs<Real>& args, Real* base)
        : steps(projected_steps(args.size)),
          keeps_ih(keeps_columns(args.format) || (args.size.D == 0 && (args.packed || args.size.T > steps))),
          weights(net, args.size, args.format, keeps_ih, args.packed ? args.packed : base) {
        const Kernels<Real>& kernels = net.kernels;
        const CellShape& shape = net.shape();
        const Sizes& size = args.size;
        const Index H = size.H, threads = args.split.batch_parts * args.split.unit_parts;
        const bool dense = size.D == 0;
        const Index panel_units = Index{1} << panel_shift(shape.gates) << kernels.lanes_log2;
        Carver<Real> carver{base, args.packed ? 0 : weights.total};
        panel_size = dense && !keeps_ih
                         ? pitch<Real>(net.product(args.format).packed_size(panel_units, shape.gates, size.I)) +
                               threads_apart<Real>(threads)
                         : 0;
        panels = carver.take(threads * panel_size);
        projected = carver.take((dense ? steps * size.B : size.D) * shape.gates * padded(kernels, H));
        zeros = carver.take(size.B * H);
        for (Real*& after : h) after = carver.take(args.y ? 0 : size.B * H);
        for (Real*& after : masked) after = carver.take(args.regularisation.mask ? size.B * H : 0);
        const bool keeps_saved = !args.tape && shape.phases > 1;
        saved = carver.take(keeps_saved ? size.B * saved_pitch(kernels, shape, H) : 0);
        total = carver.used;
    }
};

// Rows as a weight format takes them: of x of some steps, and of an operand of W_hh. Threads that share units have
// one each, which they fill for themselves.
template <class Real>
struct Ready {
    Real *x, *h;
    Index total;

    Ready(const Net<Real>& net, const ForwardArgs<Real>& args, Real* base) {
        const auto size_of_row = net.product(args.format).ready_size;
        const Sizes& size = args.size;
        Carver<Real> carver{base};
        const bool dense = size.D == 0;
        x = carver.take(size_of_row && dense ? projected_steps(size) * size.B * size_of_row(size.I) : 0);
        h = carver.take(size_of_row ? size.B * size_of_row(size.H) : 0);
        total = carver.used;
    }
};

template <class Real>
class Forward {
public:
    Forward(const Net<Real>& net, const ForwardArgs<Real>& args, Team& team)
        : kernels_(net.kernels),
          product_(net.product(args.format)),
          cell_(net.forward()),
          shape_(net.shape()),
          args_(args),
          team_(team),
          size_(args.size),
          training_(args.tape != nullptr),
          goes_back_(training_ && args.format == WeightFormat::plain),
          shares_units_(args.split.unit_parts > 1),
          regularised_(regularises(shape_, args.regularisation)),
          long_steps_(has_long_steps(shape_, args.size)),
          tape_(training_ ? Tape<Real>(kernels_, shape_, args.size, args.format, args.tape) : Tape<Real>()),
          work_(net, args, args.workspace),
          ready_(net, args, args.ready),
          lanes_(1 << kernels_.lanes_log2),
          blocks_(shift_up(size_.H, kernels_.lanes_log2)),
          whole_blocks_(size_.H >> kernels_.lanes_log2),
          input_shift_(panel_shift(shape_.gates)) {
        if (args.ready && shares_units_) ready_.x += team.rank() * ready_.total, ready_.h += team.rank() * ready_.total;
        for (int p = 0; p < shape_.phases; ++p) {
            const Phase phase = shape_.forward[p];
            Panels<Real>& panels = panels_[p];
            panels.data = work_.weights.hh[p];
            panels.vectors = blocks_ * phase.count;
            panels.width = phase.count << panel_shift(phase.count);
            panels.depth = depth_of(phase, size_);
            panels.start = work_.weights.bias_hh[p];
        }
        // One by one: what is built beside it and then copied by vectors waits for its own stores.
        run_.H = size_.H, run_.Hp = blocks_ << kernels_.lanes_log2, run_.blocks = blocks_;
        run_.saved_pitch = saved_pitch(kernels_, shape_, size_.H);
        run_.state_pitch = tape_.state_pitch, run_.keep_pitch = args.regularisation.keep_pitch;
        run_.vectors = work_.weights.vectors, run_.options = args.options;
        run_.mask = args.regularisation.mask, run_.training = training_;
        tape_steps_ = training_ ? block_steps(size_) : 1;
        take_rows({0, size_.B});
    }

    void run() {
        if (size_.H * size_.B == 0) return;
        prepare();
        if (shares_units_) return run_steps();
        const int parts = args_.split.batch_parts;
        for (Index part; (part = team_.claim(parts)) >= 0;) {
            take_rows(share(size_.B, part, parts));
            run_steps();
        }
    }

private:
    // Rows of the batch for this thread: all of them, if threads share units.
    void take_rows(Range rows) {
        row_begin_ = rows.begin, row_end_ = rows.end;
        // Every part's rows of `projected` lie together; those of tokens are everyone's.
        run_.projected_rows = size_.D ? size_.D : own_rows() * work_.steps;
        projected_ = work_.projected + (size_.D ? 0 : row_begin_ * work_.steps * shape_.gates * run_.Hp);
        run_.projected = projected_;
        work_of_step_ = work_of_sums(own_rows() * size_.H, shape_.gates * size_.H) / args_.split.unit_parts;
    }

    void run_steps() {
        const Index steps = size_.D ? larger(1, size_.T) : work_.steps;
        for (Index begin = 0; begin < size_.T; begin += steps) {
            const Index end = smaller(begin + steps, size_.T);
            if (!size_.D && !projects_late()) {
                project(begin, end);
                if (shares_units_) team_.barrier();
            }
            for (Index t = begin; t < end; ++t) step(t, t - begin);
        }
        finish();
    }

    // Packs, and copies what the tape keeps: everything that threads make for each other before the first step.
    void prepare() {
        const int parts = team_.size();
        for (Index part; (part = team_.claim(parts)) >= 0;) prepare_part(part, parts);
        team_.barrier();
    }

    void prepare_part(Index part, int parts) {
        const Index B = size_.B, H = size_.H;
        if (!args_.packed || args_.fills_packed) pack(part);
        if (size_.D && product_.column)
            project_columns(share(panel_count(input_panels()), part, parts));
        else if (size_.D)
            project_tokens(share(blocks_, part, parts));
        if (part == 0) {
            if (!args_.state_0[kH]) clear(work_.zeros, B * H);
            for (int s = 0; s < shape_.states; ++s) {
                if (args_.state_0[s] == args_.state_n[s]) continue;
                if (args_.state_0[s])
                    copy(args_.state_0[s], B * H, args_.state_n[s]);
                else
                    clear(args_.state_n[s], B * H);
            }
            if (const Real* const mask = args_.regularisation.mask)
                for (Index i = 0; i < B * H; ++i) work_.masked[1][i] = before(kH, 0)[i] * mask[i];
        }
        if (training_ && part == 0 && shape_.vectors > 0)
            copy(work_.weights.vectors, shape_.vectors * H, tape_.vectors);
        if (goes_back_) keep_for_backward(part, parts);
    }

    // What the tape has beside what the steps leave: x, and the weights as backward multiplies them.
    void keep_for_backward(Index part, int parts) const {
        const Index I = size_.I, H = size_.H;
        if (!size_.D) {
            const Range rows = share(first_row(size_, size_.T), part, parts);
            copy_in_parts(args_.x + rows.begin * I, (rows.end - rows.begin) * I, tape_.x + rows.begin * I);
            pack_gradient(part, args_.w_ih, H, I, shape_.input_gradient, shape_.gates, first_input_plane(shape_),
                          shape_.gates, 0, tape_.packed_ih);
        }
        for (int p = 0; p < shape_.phases; ++p) {
            const Phase phase = shape_.backward[p];
            if (phase.operand == kNothing) continue;
            const int first = is_projection(shape_, phase.first) ? phase.first : 0;
            const HiddenRows w = hidden_rows(shape_, first, size_);
            pack_gradient(part, args_.w_hh + w.number, w.rows, w.length, shape_.hidden_gradient, shape_.recurrent,
                          phase.first, phase.count, first, tape_.packed_hh[p]);
        }
    }

    void pack(Index part) const {
        const Weights<Real>& weights = work_.weights;
        each_matrix(shape_, size_, weights, work_.keeps_ih, [&](const PackedMatrix<Real>& m) { pack_matrix(part, m); });
        if (part > 0) return;
        if (shape_.vectors > 0) copy(args_.vectors, shape_.vectors * size_.H, weights.vectors);
        fill_bias(args_.b_ih, 0, shape_.gates, weights.bias_ih);
        for (int p = 0; p < shape_.phases; ++p)
            fill_bias(args_.b_hh, shape_.forward[p].first, shape_.forward[p].count, weights.bias_hh[p]);
    }

    void pack_matrix(Index part, const PackedMatrix<Real>& m) const {
        const Matrix& given = args_.in_format[m.hidden];
        const void* first;
        if (args_.format == WeightFormat::plain)
            first = (m.hidden ? args_.w_hh : args_.w_ih) + m.number;
        else
            first = static_cast<const char*>(given.numbers) + m.number * bytes_of_number(args_.format);
        const float* const scales = given.scales ? given.scales + m.row : nullptr;
        const Range own = share(shift_up(blocks_, panel_shift(m.rows.gates)), part, team_.size());
        for (Index panel = own.begin; panel < own.end; ++panel) {
            product_.pack(m.rows, first, scales, blocks_, panel, m.packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * lanes_ * m.rows.depth));
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
        const Real* const own = bias && first < shape_.gates ? bias + first * size_.H : nullptr;
        kernels_.arrays->group_gates(own, count, size_.H, filled);
    }

    // Of the gates with planes first, first + 1, ... of gradients, by `plane_of` each of `gates` gates; w, (...,
    // columns), begins with gate `first_gate`.
    void pack_gradient(Index part, const Real* w, Index units, Index columns, const int* plane_of, int gates, int first,
                       int count, int first_gate, Real* packed) const {
        int gate[kMostPlanes];
        for (int g = 0; g < gates; ++g) {
            const int place = plane_of[g] - first;
            if (place >= 0 && place < count) gate[place] = g - first_gate;
        }
        const Range own = share(ceil_div(columns, kMaxWidth * lanes_), part, team_.size());
        for (Index panel = own.begin; panel < own.end; ++panel) {
            kernels_.columns->pack(w, columns, units, columns, gate, count, panel, packed);
            team_.poll(kWorkOfMoving * static_cast<double>(kMaxWidth * lanes_ * count * units));
        }
    }

    // One projected row per distinct token, of blocks [own) of units.
    void project_tokens(Range own) const {
        const Index H = size_.H, I = size_.I;
        const bool transposed = args_.transposed_w_ih;
        for (Index block = own.begin; block < own.end; ++block) {
            const Index unit = block * lanes_, n = smaller(lanes_, H - unit);
            for (Index d = 0; d < size_.D; ++d) {
                const Index token = args_.tokens.id[d];
                const Real* const w = args_.w_ih + (transposed ? token * shape_.gates * H + unit : unit * I + token);
                kernels_.arrays->project_token(w, transposed ? 1 : I, transposed ? H : H * I,
                                               args_.b_ih ? args_.b_ih + unit : nullptr, H, shape_.gates, n,
                                               projected_at(block, d));
                if (d % 1024 == 0) team_.poll(kWorkOfMoving * 1024 * static_cast<double>(shape_.gates * lanes_));
            }
        }
    }

    // The same, of panels [own) of packed weights.
    void project_columns(Range own) const {
        const Panels<Real> panels = input_panels();
        for (Index panel = own.begin; panel < own.end; ++panel)
            for (Index d = 0; d < size_.D; ++d) {
                product_.column(panels, panel, args_.tokens.id[d], projected_at(panel << input_shift_, d));
                if (d % 1024 == 0) team_.poll(kWorkOfMoving * 1024 * static_cast<double>(panels.width * lanes_));
            }
    }

    // Rows as the weight format takes them, which this thread alone reads.
    Rows<Real> made_ready(const Rows<Real>& rows, Index begin, Index end, Index depth, Real* ready) const {
        if (!product_.make_ready || depth == 0) return rows;
        product_.make_ready(rows, begin, end, depth, ready);
        return {ready, product_.ready_size(depth)};
    }

    // What a row of ready_.h has beyond so many numbers. Each part of the batch keeps to its own rows, as others may be
    // in a phase of another depth.
    Index spare_ready(Index depth) const {
        return product_.make_ready ? product_.ready_size(size_.H) - product_.ready_size(depth) : 0;
    }

    Index own_rows() const { return row_end_ - row_begin_; }

    // W_ih, if it is kept, with its biases.
    Panels<Real> input_panels() const {
        return {work_.weights.ih, blocks_ * shape_.gates, shape_.gates << input_shift_, size_.I, work_.weights.bias_ih};
    }

    // W_ih x + b_ih of this thread's rows in steps [begin, end), in the order (step, row), for the units that it gets.
    void project(Index begin, Index end) const {
        if (shares_units_ && !team_.present()) return;
        const Index I = size_.I;
        Rows<Real> x{args_.x + first_row(size_, begin) * I, I};
        Index rows = first_row(size_, end) - first_row(size_, begin);
        if (own_rows() < size_.B) {
            x = {x.base + row_begin_ * I, I, larger(1, own_rows()), size_.B * I};
            rows = (end - begin) * own_rows();
        }
        if (product_.make_ready) {
            x = made_ready(x, 0, rows, I, ready_.x + row_begin_ * work_.steps * product_.ready_size(I));
        }
        Real* const at_hand = work_.panels + team_.rank() * work_.panel_size;
        const Panels<Real> all = input_panels();
        const Turns turns{0, panel_count(all), false, shares_units_ ? &team_ : nullptr, panel_count(all)};
        for (Index panel, taken = 0; (panel = next_panel(turns, taken)) >= 0; ++taken) {
            const Index first = panel << input_shift_, blocks = smaller(blocks_ - first, Index{1} << input_shift_);
            Panels<Real> panels = all;
            if (!work_.keeps_ih) {
                const Index unit = first * lanes_;
                product_.pack({size_.H - unit, size_.H, I, shape_.gates}, args_.w_ih + unit * I, nullptr, blocks, 0,
                              at_hand);
                panels = {at_hand, blocks * shape_.gates, all.width, I, all.start + panel * all.width * lanes_};
            }
            for (Index row = 0; row < rows; row += kRowBlock) {
                const Index end = smaller(row + kRowBlock, rows);
                product_.multiply_block(x, row, end, panels, work_.keeps_ih ? panel : 0, projected_at(first, row));
                team_.poll(work_of_sums((end - row) * blocks * shape_.gates * lanes_, I));
            }
        }
    }

    // Whether each panel of W_hh is followed by the same units' of W_ih. In a stream, whose steps are calls of their
    // own, both are then found in cache where the call before turned round.
    bool projects_late() const { return size_.T == 1 && !size_.D && work_.keeps_ih; }

    // W_ih x + b_ih of rows [first, first + count) of the one step, for blocks [begin, end) of units.
    void project_units(Index first, Index count, Index begin, Index end) const {
        const Panels<Real> panels = input_panels();
        multiply(product_, x_, first, first + count, panels, Turns{begin >> input_shift_, shift_up(end, input_shift_)},
                 [&](Index row, Index rows, Index panel, int width, const Real* sums) {
                     const Index each = smaller(panels.width, width) * lanes_;  // of several panels, with one row
                     for (Index i = 0; i * each < width * lanes_; ++i)
                         copy(sums + i * each, rows * each,
                              projected_at((panel + i) << input_shift_, row - row_begin_));
                     team_.poll(work_of_sums(rows * width * lanes_, size_.I));
                 });
    }

    // The gates of a block of units in one of this thread's rows of `projected`.
    Real* projected_at(Index block, Index row) const {
        return projected_ + projected_offset(1 << input_shift_, shape_.gates << kernels_.lanes_log2, blocks_,
                                             run_.projected_rows, block, row);
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

    // Step t, in place `place` of those that are projected together.
    void step(Index t, Index place) {
        const ForwardStep<Real> at = step_at(t, place);
        for (int p = 0; p < shape_.phases; ++p) {
            run_phase(p, at, t);
            // Other threads' units of this phase's results are operands of the next.
            if (shares_units_) team_.barrier();
            if (p == 0 && shape_.normalised > 0) {
                normalise_rows(at, t);
                if (shares_units_) team_.barrier();
            }
        }
        team_.poll(work_of_step_);
    }

    void run_phase(int p, const ForwardStep<Real>& at, Index t) {
        if (shares_units_ && !team_.present()) return;
        const Phase phase = shape_.forward[p];
        const auto cell = cell_.phase[p];
        const int shift = panel_shift(phase.count), gates = phase.count;
        Rows<Real> operand{args_.regularisation.mask ? work_.masked[(t + 1) % 2] : at.prev[kH], size_.H};
        if (phase.operand >= 0) operand = {at.saved + phase.operand * run_.Hp, run_.saved_pitch};
        const Panels<Real>& panels = panels_[p];
        const Index end_row = smaller(row_end_, step_rows(size_, t));
        const bool late = p == 0 && projects_late();
        const bool backwards = (t % 2 != 0) != args_.turned;
        const auto epilogue = [&](Index first, Index count, Index panel, int width, const Real* sums) {
            if (long_steps_) team_.poll(work_of_sums(count * width * lanes_, panels.depth));
            const Index begin = panel << shift, end = begin + quotient(width, gates);
            if (late) project_units(first, count, begin, end);
            const Index whole = smaller(end, whole_blocks_);
            // Of a single row, the blocks that lie evenly in `projected` are gone through at once.
            const Index even = input_shift_ > 0 ? Index{1} << input_shift_ : Index{1} << 62;
            const Index sums_row = width * lanes_, paired = count & ~Index{1};
            for (Index block = begin, n; block < end; block += n) {
                const bool plain = block < whole && !regularised_;
                n = count > 1 || !plain ? 1 : smaller(whole - block, even - (block & (even - 1)));
                const Real* const own = sums + (block - begin) * gates * lanes_;
                if (!plain) {
                    cell.careful(at, first, count, block, own, sums_row);
                    continue;
                }
                if (paired > 0) cell.pairs(at, first, paired, block, own, sums_row);
                if (paired < count) cell.blocks(at, first + paired, block, n, own + paired * sums_row);
            }
        };
        const auto ready = [&](Index begin, Index end) {
            if (late) x_ = made_ready({args_.x, size_.I}, begin, end, size_.I, ready_.x);
            return made_ready(operand, begin, end, panels.depth, ready_.h + begin * spare_ready(panels.depth));
        };
        const Index all = panel_count(panels), parts = args_.split.batch_parts;
        if (!shares_units_ || parts == 1) {
            const Range own = shares_units_ ? share(all, team_.rank(), team_.size()) : Range{0, all};
            const Turns turns{own.begin, own.end, backwards, shares_units_ ? &team_ : nullptr, all};
            return multiply(product_, ready(row_begin_, end_row), row_begin_, end_row, panels, turns, epilogue);
        }
        Rows<Real> rows_of_part{};
        Index last = -1;
        for (Index piece; (piece = team_.claim(parts * all, backwards)) >= 0;) {
            const Index part = piece / all, panel = piece % all;
            const Range rows = share(end_row, part, parts);
            if (part != last) rows_of_part = ready(rows.begin, rows.end);
            last = part;
            multiply(product_, rows_of_part, rows.begin, rows.end, panels, {panel, panel + 1}, epilogue);
        }
    }

    ForwardStep<Real> step_at(Index t, Index place) const {
        const Index row = first_row(size_, t);
        const bool is_first = training_ && t % tape_steps_ == 0;
        ForwardStep<Real> at;
        at.run = &run_;
        for (int s = 0; s < kMaxStates; ++s) {
            at.prev[s] = before(s, t);
            at.next[s] = after(s, t);
            at.first[s] = is_first && s < shape_.states ? tape_.state[s] + t / tape_steps_ * size_.B * tape_.state_pitch
                                                        : nullptr;
            at.keep[s] = keep_of(args_.regularisation, s, row);
        }
        at.masked = args_.regularisation.mask ? work_.masked[t % 2] : nullptr;
        at.saved = training_ ? tape_.saved + row * tape_.saved_pitch : work_.saved;
        at.slot = size_.D ? args_.tokens.slot + row : nullptr;
        at.first_projected = own_rows() < size_.B ? place * own_rows() - row_begin_ : row - first_row(size_, t - place);
        return at;
    }

    // The planes of step t that are to be normalised, in this thread's share of the rows.
    void normalise_rows(const ForwardStep<Real>& at, Index t) const {
        const Index rows = larger(0, smaller(row_end_, step_rows(size_, t)) - row_begin_);
        const Turns turns{0, rows, false, shares_units_ ? &team_ : nullptr, rows};
        for (Index own, taken = 0; (own = next_panel(turns, taken)) >= 0; ++taken) {
            const Index row = row_begin_ + own;
            for (int i = 0; i < shape_.normalised; ++i) {
                Real* const plane = at.saved + row * run_.saved_pitch + (shape_.first_normalised + i) * run_.Hp;
                const Real scale = kernels_.arrays->normalise(plane, size_.H);
                if (goes_back_) tape_.scale[(first_row(size_, t) + row) * shape_.normalised + i] = scale;
            }
        }
    }

    // h_n is the last that y has of each row. Units of a row may come from several threads: the barrier has passed.
    void finish() const {
        if (shares_units_ && team_.rank() != 0) return;
        Index row = row_begin_;
        for (Index t = size_.T; t > 0 && row < row_end_; --t) {
            const Index end = smaller(row_end_, step_rows(size_, t - 1));
            if (end <= row) continue;
            copy(before(kH, t) + row * size_.H, (end - row) * size_.H, args_.state_n[kH] + row * size_.H);
            row = end;
        }
    }

    const Kernels<Real>& kernels_;
    const ProductKernels<Real>& product_;
    const ForwardCell<Real>& cell_;
    const CellShape& shape_;
    const ForwardArgs<Real>& args_;
    Team& team_;
    const Sizes size_;
    const bool training_, goes_back_, shares_units_, regularised_, long_steps_;
    const Tape<Real> tape_;
    const Workspace<Real> work_;
    Ready<Real> ready_;
    const Index lanes_, blocks_, whole_blocks_;  // lanes in a vector; blocks of units, and those that are whole
    const int input_shift_;                      // the logarithm of the blocks in a panel of W_ih
    Index row_begin_, row_end_;                  // this thread's rows of the batch
    Panels<Real> panels_[kMostPhases];           // of W_hh, for each phase
    ForwardRun<Real> run_;
    Rows<Real> x_;         // of the one step, where it is projected late
    Real* projected_;      // what this thread needs of `projected`
    double work_of_step_;  // for Team::poll()
    Index tape_steps_;     // in a block of the tape's
};

}  // namespace

template <class Real>
Index tape_size(const Net<Real>& net, const Sizes& size, WeightFormat format) {
    return Tape<Real>(net.kernels, net.shape(), size, format, nullptr).total;
}

template <class Real>
Index packed_size(const Net<Real>& net, const Sizes& size, WeightFormat format) {
    return Weights<Real>(net, size, format, size.D == 0 || keeps_columns(format), nullptr).total;
}

template <class Real>
void unpack(const Net<Real>& net, const UnpackArgs& args, Team& team) {
    const Sizes size{0, 0, args.I, args.H, 0, nullptr, args.P};
    // What is only read.
    const Weights<Real> weights(net, size, args.format, true, static_cast<Real*>(const_cast<void*>(args.packed)));
    const ProductKernels<Real>& product = net.product(args.format);
    const Index blocks = shift_up(size.H, net.kernels.lanes_log2);
    each_matrix(net.shape(), size, weights, true, [&](const PackedMatrix<Real>& m) {
        const UnpackedMatrix& to = args.matrix[m.hidden];
        if (!to.numbers && !to.scales) return;
        void* const first = static_cast<char*>(to.numbers) + m.number * bytes_of_number(args.format);
        float* const scales = to.scales ? to.scales + m.row : nullptr;
        for (Index panel = 0; panel < shift_up(blocks, panel_shift(m.rows.gates)); ++panel) {
            product.unpack(m.rows, m.packed, blocks, panel, first, scales);
            team.poll(kWorkOfMoving * static_cast<double>((kMaxWidth << net.kernels.lanes_log2) * m.rows.depth));
        }
    });
}

template <class Real>
Index workspace_size(const Net<Real>& net, const ForwardArgs<Real>& args) {
    return Workspace<Real>(net, args, nullptr).total;
}

template <class Real>
Index ready_size(const Net<Real>& net, const ForwardArgs<Real>& args) {
    return Ready<Real>(net, args, nullptr).total;
}

template <class Real>
void forward(const Net<Real>& net, const ForwardArgs<Real>& args, Team& team) {
    Forward<Real>(net, args, team).run();
}

#define FASTRNN_INSTANTIATE(Real)                                              \
    template Index tape_size(const Net<Real>&, const Sizes&, WeightFormat);    \
    template Index packed_size(const Net<Real>&, const Sizes&, WeightFormat);  \
    template void unpack(const Net<Real>&, const UnpackArgs&, Team&);          \
    template Index workspace_size(const Net<Real>&, const ForwardArgs<Real>&); \
    template Index ready_size(const Net<Real>&, const ForwardArgs<Real>&);     \
    template void forward(const Net<Real>&, const ForwardArgs<Real>&, Team&);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)
#undef FASTRNN_INSTANTIATE

}  // namespace fastrnn
