// The forward pass of every cell. The hot loop is run(): for each step, product() over this thread's share of W_hh, and
// the cell's arithmetic on the sums.
#pragma once

#include "../thread_pool.h"
#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Input rows that are projected at a time: so many that reading W_ih once for them costs little beside writing and
// reading their sums, and for small nets so few that the sums stay in L2.
constexpr Index projected_rows(Index I) { return smaller(larger(256, I / 2), 1024); }

template <template <class> class CellOf, class Real>
class Forward {
    using V = Vec<Real>;
    using Cell = CellOf<V>;
    static constexpr Index kLanes = V::kLanes;
    static constexpr int kInputBlocks = blocks_per_panel(Cell::kGates);
    static constexpr Index kGroup = Cell::kGates * kLanes;  // all gates of a block of units

    // Threads share units by grains: as many blocks as the widest panel of any product of the step.
    static constexpr int grain() {
        int most = kInputBlocks;
        for (const Phase& phase : Cell::kForward)
            if (blocks_per_panel(phase.count) > most) most = blocks_per_panel(phase.count);
        return most;
    }

    struct Workspace {
        Real* packed_ih;                 // the panel of W_ih at hand, for each thread; absent with tokens
        Real* packed_hh[Cell::kPhases];  // panels of W_hh's gates in each phase
        Real* bias_ih;                   // (blocks of units, G, lanes), zeros where the caller gave none
        Real* bias_hh;                   // the same
        // W_ih x + b_ih of the rows of some steps, or of each token: (blocks of units, rows, G, lanes), in the order in
        // which a step reads it.
        Real* projected;
        Real* zeros;  // (B, H): h_0, if the caller gave none
        Real* saved;  // (B, saved_pitch) of the step at hand, if a later phase needs it
        Index total;

        Workspace(const Sizes& size, const Split& split, bool training, Real* base) {
            const Index H = size.H;
            const bool dense = size.D == 0;
            Carver<Real> carver{base};
            packed_ih = carver.take(dense ? split.batch_parts * split.unit_parts * panel_size(size) : 0);
            for (int p = 0; p < Cell::kPhases; ++p)
                packed_hh[p] = carver.take(packed_size<V>(H, Cell::kForward[p].count, H));
            bias_ih = carver.take(Cell::kGates * padded<V>(H));
            bias_hh = carver.take(Cell::kGates * padded<V>(H));
            projected = carver.take((dense ? block_steps(size) * size.B : size.D) * Cell::kGates * padded<V>(H));
            zeros = carver.take(training ? 0 : size.B * H);
            saved = carver.take(training || Cell::kPhases == 1 ? 0 : size.B * Tape<Cell, V>(size, nullptr).saved_pitch);
            total = carver.used;
        }
    };

    static Index block_steps(const Sizes& size) {
        return larger(1, smaller(size.T, projected_rows(size.I) / larger(1, size.B)));
    }
    static Index panel_size(const Sizes& size) { return pitch<Real>(kInputBlocks * kLanes * Cell::kGates * size.I); }

public:
    static Index tape_size(const Sizes& size) { return Tape<Cell, V>(size, nullptr).total; }
    static Index workspace_size(const Sizes& size, const Split& split, bool training) {
        return Workspace(size, split, training, nullptr).total;
    }
    static void run(const ForwardArgs<Real>& args, Team& team) { Forward(args, team).run(); }

private:
    Forward(const ForwardArgs<Real>& args, Team& team)
        : args_(args),
          team_(team),
          size_(args.size),
          training_(args.tape != nullptr),
          tape_(args.size, args.tape),
          work_(args.size, args.split, training_, args.workspace),
          Hp_(padded<V>(size_.H)) {
        const int unit_part = team.rank() % args.split.unit_parts;
        const Range rows = share(size_.B, team.rank() / args.split.unit_parts, args.split.batch_parts);
        const Range grains = share(ceil_div(Hp_ / kLanes, grain()), unit_part, args.split.unit_parts);
        row_begin_ = rows.begin, row_end_ = rows.end;
        block_begin_ = grains.begin * grain();
        block_end_ = smaller(grains.end * grain(), Hp_ / kLanes);
    }

    void run() {
        if (size_.H == 0) return;
        prepare();
        const Index steps = size_.D ? larger(1, size_.T) : block_steps(size_);
        for (Index begin = 0; begin < size_.T; begin += steps) {
            const Index end = smaller(begin + steps, size_.T);
            if (!size_.D) project(begin, end);
            for (Index t = begin; t < end; ++t) run_phase<0>(t, t - begin);
        }
        finish();
    }

    // Packs, and copies what the tape keeps: everything that threads make for each other before the first step.
    void prepare() {
        const Index T = size_.T, B = size_.B, I = size_.I, H = size_.H;
        const int part = team_.rank(), parts = team_.size();
        const Range grains = share(ceil_div(Hp_ / kLanes, grain()), part, parts);
        const auto panels = [&](int gates) {
            const int blocks = blocks_per_panel(gates);
            return Range{grains.begin * grain() / blocks,
                         ceil_div(smaller(grains.end * grain(), Hp_ / kLanes), blocks)};
        };
        for (int p = 0; p < Cell::kPhases; ++p) {
            const Phase phase = Cell::kForward[p];
            const Range own = panels(phase.count);
            pack_rows<V>(args_.w_hh, H, H, phase.first, phase.count, own.begin, own.end, work_.packed_hh[p]);
        }
        for (int g = part; g < Cell::kGates; g += parts) {
            fill_bias(args_.b_ih, g, work_.bias_ih);
            fill_bias(args_.b_hh, g, work_.bias_hh);
        }
        if (size_.D) project_tokens(share(Cell::kGates * H, part, parts));
        if (part == 0) {
            if (!training_) clear(work_.zeros, B * H);
            for (int s = 0; s < Cell::kStates; ++s) {
                Real* const first = training_ ? tape_.state[s] : args_.state_n[s];
                const Index pitch = training_ ? tape_.state_pitch : H;
                for (Index b = 0; b < B; ++b) {
                    if (args_.state_0[s])
                        copy(args_.state_0[s] + b * H, H, first + b * pitch);
                    else
                        clear(first + b * pitch, H);
                }
            }
        }
        if (training_) {
            if (!size_.D) {
                const Range rows = share(T * B, part, parts);
                for (Index r = rows.begin; r < rows.end; ++r) copy(args_.x + r * I, I, tape_.x + r * tape_.x_pitch);
                pack_gradient(args_.w_ih, I, Cell::kInputGradient, 0, Cell::kGates, tape_.packed_ih);
            }
            for (int p = 0; p < Cell::kPhases; ++p) {
                const Phase phase = Cell::kBackward[p];
                pack_gradient(args_.w_hh, H, Cell::kHiddenGradient, phase.first, phase.count, tape_.packed_hh[p]);
            }
        }
        if (parts > 1) team_.barrier();
    }

    void fill_bias(const Real* bias, int g, Real* filled) const {
        for (Index unit = 0; unit < Hp_; unit += kLanes) {
            const Index n = smaller(kLanes, size_.H - unit);
            const V values = bias ? load_part<V>(bias + g * size_.H + unit, n) : V::zero();
            values.store(filled + unit * Cell::kGates + g * kLanes);
        }
    }

    void pack_gradient(const Real* w, Index columns, const int* plane_of, int first, int count, Real* packed) const {
        int gate[Cell::kGates];
        gates_in_order<Cell>(plane_of, first, count, gate);
        const Range own = share(ceil_div(columns, kMaxWidth * kLanes), team_.rank(), team_.size());
        pack_columns<V>(w, size_.H, columns, gate, count, own.begin, own.end, packed);
    }

    // One projected row per distinct token: rows [own) of w_ih, read along, written down the columns.
    void project_tokens(Range own) const {
        for (Index row = own.begin; row < own.end; ++row) {
            const Index gate = row / size_.H, unit = row % size_.H;
            Real* const to = work_.projected + unit / kLanes * size_.D * kGroup + gate * kLanes + unit % kLanes;
            const Real bias = args_.b_ih ? args_.b_ih[row] : 0;
            for (Index d = 0; d < size_.D; ++d) to[d * kGroup] = args_.w_ih[row * size_.I + args_.tokens.id[d]] + bias;
        }
    }

    Index own_rows() const { return row_end_ - row_begin_; }

    // W_ih x + b_ih of this thread's rows and units in steps [begin, end), rows in the order (step, row). Panel by
    // panel: W_ih is packed as it is used, since a block of rows outweighs the packing, and a panel stays in cache.
    void project(Index begin, Index end) const {
        const Index I = size_.I;
        const Rows<Real> x{args_.x + (begin * size_.B + row_begin_) * I, I, 1, larger(1, own_rows()), size_.B * I};
        Real* const packed = work_.packed_ih + team_.rank() * panel_size(size_);
        Real* const projected = own_projected();
        const Index rows = projected_rows_of_block();
        for (Index panel = block_begin_ / kInputBlocks; panel < ceil_div(block_end_, kInputBlocks); ++panel) {
            const Index first = panel * kInputBlocks;
            const int blocks = static_cast<int>(smaller(kInputBlocks, Hp_ / kLanes - first));
            pack_rows_panel<V>(args_.w_ih, size_.H, I, 0, Cell::kGates, first, blocks, packed);
            const Panels<V> one{packed, blocks * Cell::kGates, kInputBlocks * Cell::kGates, I};
            product<V>(x, 0, (end - begin) * own_rows(), one, 0, 1, false,
                       [&](Index row, Index, int width, const V* sums) {
                           for (int v = 0; v < width; ++v) {
                               const Index block = first + v / Cell::kGates, gate = v % Cell::kGates * kLanes;
                               const V bias = V::load(work_.bias_ih + block * kGroup + gate);
                               (sums[v] + bias).store(projected + (block * rows + row) * kGroup + gate);
                           }
                       });
        }
    }

    // This thread's rows of `projected`, and how many of them a block of units has.
    Real* own_projected() const {
        return work_.projected + (size_.D ? 0 : row_begin_ * block_steps(size_) * Cell::kGates * Hp_);
    }
    Index projected_rows_of_block() const { return size_.D ? size_.D : own_rows() * block_steps(size_); }

    // Rows of state s before step t, and after it.
    Rows<Real> before(int s, Index t) const {
        if (training_) return {tape_.state[s] + t * size_.B * tape_.state_pitch, tape_.state_pitch};
        if (s != kH) return {args_.state_n[s], size_.H};
        if (t > 0) return {args_.y + (t - 1) * size_.B * size_.H, size_.H};
        return {args_.state_0[kH] ? args_.state_0[kH] : work_.zeros, size_.H};
    }

    template <int p>
    void run_phase(Index t, Index step) {
        constexpr Phase phase = Cell::kForward[p];
        constexpr int blocks = blocks_per_panel(phase.count);
        constexpr bool last = p + 1 == Cell::kPhases;
        const Index B = size_.B, H = size_.H;

        Rows<Real> prev[Cell::kStates];
        for (int s = 0; s < Cell::kStates; ++s) prev[s] = before(s, t);
        Real* const saved = training_ ? tape_.saved + t * B * tape_.saved_pitch : work_.saved;
        Rows<Real> operand = prev[kH];
        if constexpr (phase.operand != kPreviousH) operand = {saved + phase.operand * Hp_, tape_.saved_pitch};
        const Panels<V> panels{work_.packed_hh[p], Hp_ / kLanes * phase.count, blocks * phase.count, H};
        const Real* const projected = own_projected();
        const Index projected_rows = projected_rows_of_block();

        product<V>(operand, row_begin_, row_end_, panels, block_begin_ / blocks, ceil_div(block_end_, blocks),
                   t % 2 != 0, [&](Index b, Index panel, int width, const V* sums) {
                       const Index row = size_.D ? args_.tokens.slot[t * B + b] : step * own_rows() + b - row_begin_;
                       Real* const saved_row = saved + b * tape_.saved_pitch;
                       for (int u = 0; u * phase.count < width; ++u) {
                           const Index block = panel * blocks + u, unit = block * kLanes;
                           const Index n = smaller(kLanes, H - unit);
                           const Real* const inputs = projected + (block * projected_rows + row) * kGroup;
                           V x[Cell::kGates], hidden[Cell::kGates], state[Cell::kStates], kept[Cell::kSaved + 1],
                               next[Cell::kStates];
                           for (int g = phase.first; g < phase.first + phase.count; ++g) {
                               x[g] = V::load(inputs + g * kLanes);
                               hidden[g] = sums[u * phase.count + g - phase.first] +
                                           V::load(work_.bias_hh + block * kGroup + g * kLanes);
                           }
                           for (int s = 0; s < Cell::kStates; ++s) state[s] = load_part<V>(prev[s][b] + unit, n);
                           if constexpr (p > 0)
                               for (int s = 0; s < Cell::kSaved; ++s) kept[s] = V::load(saved_row + s * Hp_ + unit);

                           Cell::template forward<p>(x, hidden, state, kept, next);

                           if (training_ || !last)
                               for (int s = 0; s < Cell::kSaved; ++s)
                                   if (writes(phase, s)) kept[s].store(saved_row + s * Hp_ + unit);
                           if constexpr (last) {
                               store_part(next[kH], args_.y + (t * B + b) * H + unit, n);
                               for (int s = 0; s < Cell::kStates; ++s) {
                                   if (training_)
                                       next[s].store(tape_.state[s] + ((t + 1) * B + b) * tape_.state_pitch + unit);
                                   else if (s != kH)
                                       store_part(next[s], args_.state_n[s] + b * H + unit, n);
                               }
                           }
                       }
                   });
        // Other threads' units of this phase's results are operands of the next.
        if (args_.split.unit_parts > 1) team_.barrier();
        if constexpr (last)
            team_.poll(2.0 * static_cast<double>(own_rows() * H * Cell::kGates * (H + size_.I)) /
                       args_.split.unit_parts);
        else
            run_phase<p + 1>(t, step);
    }

    // The last state is the caller's too. Units of a row may come from several threads: the barrier has passed.
    void finish() const {
        if (team_.rank() % args_.split.unit_parts != 0) return;
        for (int s = 0; s < Cell::kStates; ++s) {
            if (!training_ && (s != kH || size_.T == 0)) continue;  // state_n itself is where the state lives
            const Rows<Real> last = before(s, size_.T);
            for (Index b = row_begin_; b < row_end_; ++b) copy(last[b], size_.H, args_.state_n[s] + b * size_.H);
        }
    }

    const ForwardArgs<Real>& args_;
    Team& team_;
    const Sizes size_;
    const bool training_;
    const Tape<Cell, V> tape_;
    const Workspace work_;
    const Index Hp_;
    Index row_begin_, row_end_;      // this thread's rows of the batch
    Index block_begin_, block_end_;  // and its blocks of units
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
