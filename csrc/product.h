// What the loop over time asks of a product of rows with packed weights, and how the product hands over its sums. Plain
// data, without so much as a constructor (kernels/README): there is one ProductKernels for each instruction set and
// weight format.
#pragma once

#include "layout.h"
#include "thread_pool.h"

namespace fastrnn {

// Row r of the left operand starts at base + (r / per_step) * step_stride + (r % per_step) * stride.
template <class Real>
struct Rows {
    const Real* base;
    Index stride;
    Index per_step = PTRDIFF_MAX;
    Index step_stride = 0;
};

// The right operand, packed: `vectors` columns of lanes, in panels of `width` (the last may be narrower), each of which
// is as its weight format has it.
template <class Real>
struct Panels {
    const void* data;
    Index vectors;
    int width;
    Index depth;                  // k
    const Real* start = nullptr;  // (vectors): what each column's sums start from; null is zeros
};

template <class Real>
static Index panel_count(const Panels<Real>& panels) {
    return ceil_div(panels.vectors, panels.width);
}

// The panels that a thread takes of a product: those of [begin, end); or, with a team, of `all`, those that it claims,
// which are likely to be [begin, end).
struct Turns {
    Index begin, end;
    bool backwards = false;  // from the last: see ProductKernels::multiply
    Team* team = nullptr;
    Index all = 0;
};

// The panel after `taken` of them, or -1.
static inline Index next_panel(const Turns& turns, Index taken) {
    if (turns.team) return turns.team->claim(turns.all, turns.backwards);
    if (taken == turns.end - turns.begin) return -1;
    return turns.backwards ? turns.end - 1 - taken : turns.begin + taken;
}

// What takes the sums: `width` vectors of each of rows [first, first + count), which lie one after the other. They
// begin with those of `panel`; of a single row they may be those of the panels after it, too.
template <class Real>
struct Epilogue {
    void (*call)(const void* context, Index first, Index count, Index panel, int width, const Real* sums);
    const void* context;
};

// That calls function(first, count, panel, width, sums).
template <class Real, class Function>
static Epilogue<Real> epilogue_of(const Function& function) {
    const auto call = [](const void* context, Index first, Index count, Index panel, int width, const Real* sums) {
        (*static_cast<const Function*>(context))(first, count, panel, width, sums);
    };
    return {call, &function};
}

// Arrays over the product's rows and columns that its epilogue reads or writes: by the time that a tile is done, its
// part of them is in cache. To ask for it any later, for many tiles at once, would be to wait for it.
template <class Real>
struct Touched {
    static constexpr int kMost = 9;  // dy, and the most planes that a cell saves
    struct {
        const Real* first;  // row 0, column 0
        Index row;          // from one to the next
    } array[kMost];
    int count;
};

// How rows of weights lie, (gates, .., depth), before they are packed for x W^T: those of one gate together.
struct GateRows {
    Index units;  // that each gate has; in panels zeros stand beyond them
    Index apart;  // rows from one gate to the next
    Index depth;
    int gates;
};

// A weight format. Panel p holds the blocks of units from p << panel_shift(gates) on, as many as that says or as there
// are, their vectors in the order (block, gate): see layout.h. A panel is what it is wherever it is packed: the loop
// also packs the first of a few blocks alone. Where nothing is multiplied depth is 0, nothing has been packed, and sums
// are what they start from. Sums of a row are the same whatever rows, panels and threads there are beside it, and NaN
// where it has a NaN.
template <class Real>
struct ProductKernels {
    // The memory that panels of `gates` gates of so many units over `depth` k take, in elements of Real.
    Index (*packed_size)(Index units, int gates, Index depth);
    // Writes one of the panels of all unit blocks, of which there are so many. `first` and `scales` are the first row,
    // and what it is a multiple of: see Matrix.
    void (*pack)(const GateRows& rows, const void* first, const float* scales, Index unit_blocks, Index panel,
                 void* packed);
    // Writes the rows that one of the panels was packed of, bit for bit. Null where the caller has them.
    void (*unpack)(const GateRows& rows, const void* packed, Index unit_blocks, Index panel, void* first,
                   float* scales);
    // For every row of [row_begin, row_end) and this thread's panels, in no promised order, calls the epilogue: as
    // often as it likes. With a team a thread takes those that it claims until there are none left. A loop over time
    // that turns round at every step finds in cache the panels that the step before used last. `touched` may be null.
    void (*multiply)(const Rows<Real>& rows, Index row_begin, Index row_end, const Panels<Real>& panels,
                     const Turns& turns, const Epilogue<Real>& epilogue, const Touched<Real>* touched);
    // The sums of rows [first, end), at most kRowBlock, and one panel: (rows, width of the panel).
    void (*multiply_block)(const Rows<Real>& rows, Index first, Index end, const Panels<Real>& panels, Index panel,
                           Real* sums);
    // Null where both take rows as they are. Else they take what this has made of rows [begin, end), each of ready_size
    // elements, row r at ready + r * ready_size(depth).
    Index (*ready_size)(Index depth);
    void (*make_ready)(const Rows<Real>& rows, Index begin, Index end, Index depth, Real* ready);
    // The sums of a row that is 1 at k and 0 elsewhere, and one panel: of a token. Null where W_ih is looked up as the
    // caller has it.
    void (*column)(const Panels<Real>& panels, Index panel, Index k, Real* sums);
};

// Products with the columns of a matrix, for the way back: it has plain weights only.
template <class Real>
struct ColumnKernels {
    // Elements of the panels, kMaxWidth wide, of so many columns.
    Index (*packed_size)(Index columns, Index depth);
    // Writes one of them: W is (.., columns), its rows `pitch` apart, and k runs over the `units` rows of gates
    // gate[0], gate[1], ... in turn.
    void (*pack)(const Real* w, Index pitch, Index units, Index columns, const int* gate, int gates, Index panel,
                 Real* packed);
    // out (.., columns) = rows [row_begin, row_end) times such panels, or is added to.
    void (*multiply_into)(const Rows<Real>& rows, Index row_begin, Index row_end, const Panels<Real>& panels,
                          Index columns, bool add, Real* out, Team& team);
};

}  // namespace fastrnn
