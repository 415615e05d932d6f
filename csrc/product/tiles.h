// Rows times packed weights, a register tile at a time, for all weight formats.
//
// Every product of the project goes through product(): the input projection, the recurrence forward and backward, dx
// and the weight gradients. They differ in where rows and weights lie and in the epilogue that consumes the sums. A sum
// always runs over k = 0, 1, 2, ... in one chain, whatever the tile, so that results do not depend on how rows and
// units were shared among threads.
//
// V is the vector that multiplies: of numbers, or, in formats with smaller weights, of words of 32 bits that hold two
// numbers or four. What it loads, broadcasts and adds up it alone knows; k then counts words. Where words have kParts
// that are multiplied one after the other, rows have a number for each.
#pragma once

#include "rows.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// A panel is stored in strips, each as wide as a register tile: all of it, or half of a panel of four where registers
// are few, since 6 rows x 2 vectors read less for their 12 sums than 3 x 4 do.
template <class V>
constexpr int strip_width(int width) {
    return V::kRegisters == 16 && width == 4 ? 2 : width;
}

// Accumulators: 24 of 32 registers leave 4 for weights and the rest for broadcasts; 12 of 16 leave 3 and 1.
template <class V>
constexpr int max_rows(int strip_width) {
    const int rows = (V::kRegisters == 32 ? 24 : 12) / strip_width;
    return rows < 8 ? rows : 8;
}

// A single row has too few sums in flight to hide the latency of an FMA: it takes several strips at a time, of several
// panels.
template <class V>
constexpr int kRowSums = V::kRegisters == 32 ? 16 : 12;  // vectors of them
template <class V>
constexpr int max_strips(int strip_width) {
    const int strips = kRowSums<V> / strip_width;
    return strips < 8 ? strips : 8;
}
// A few rows take two, those of one panel or of two, where their sums leave two registers beside the weights.
constexpr int kFewRows = 3;
template <class V>
constexpr int rows_of_two_strips(int strip_width) {
    const int rows = (V::kRegisters - strip_width - 2) / (2 * strip_width);
    return rows < kFewRows ? rows : kFewRows;
}

template <class Real>
constexpr Index kNear = (3 << 19) / static_cast<Index>(sizeof(Real));  // weights up to 1.5 MiB are taken to be in L2
template <class Real>
constexpr Index kNearest = (3 << 14) / static_cast<Index>(sizeof(Real));  // and up to 48 KiB, in L1
// Vectors that are whole lines: a single row of them reads faster than the processor foresees what comes from L2, and
// looks some k ahead. What comes from further away the processor foresees better, with a single tile, when left alone.
template <class V>
constexpr bool kWholeLines = V::kLanes == kLine<typename V::Real>;
constexpr int kStepsAhead = 4;
template <class Real>
constexpr Index kAhead = 4096 / static_cast<Index>(sizeof(Real));  // how far a single tile of narrower ones looks ahead
constexpr Index kPassBytes = 256 * 1024;  // of a panel, at most, which all rows of a block pass over while it is in L2

// How many k apart strips begin. Were it just as many as there are, those that a single row goes through side by side
// would share a few sets of the cache wherever that is a power of two.
constexpr Index strip_pitch(Index depth) { return depth + 1; }

// Panels as they lie in memory: each strip after strip and in it k after k.
template <class V>
struct PanelsOf {
    using Real = typename V::Real;
    const Panels<Real>& of;

    const Panels<Real>* operator->() const { return &of; }
    Index count() const { return panel_count(of); }
    const Real* start_of(Index panel) const { return FASTRNN_ISA::start_of<V>(of, panel); }
    int width_of(Index panel) const { return FASTRNN_ISA::width_of(of, panel); }
    Index offset(Index panel) const { return panel * of.width * V::kLanes * strip_pitch(of.depth); }
    const Real* weights_of(Index panel) const { return static_cast<const Real*>(of.data) + offset(panel); }
    // From one k to the next, and from one strip to the next.
    Index k_step(Index panel) const { return strip_width<V>(width_of(panel)) * V::kLanes; }
    Index strip_step(Index panel) const { return k_step(panel) * strip_pitch(of.depth); }
    // Where vector v of a panel begins.
    Index vector_offset(Index panel, int v) const {
        const int wide = strip_width<V>(width_of(panel));
        return offset(panel) + v / wide * strip_step(panel) + v % wide * V::kLanes;
    }
};

// What one register tile is made of: rows times one strip; or a few rows times several.
template <class Real>
struct Tile {
    const Real* const* row;  // where each row begins
    Index first_k = 0;       // of the tile
    const Real* strip;
    Index strip_stride = 0;       // from one strip to the next, where there are several
    const Real* ahead = nullptr;  // what to prefetch at the first k, see Ahead
    Index ahead_step = 0;         // and how much further at each of the next
    Index depth;
    const Real* start;  // what is added to; null is zeros
    Real* sums;
    Index start_row = 0, sums_row = 0;      // from one row to the next, of several
    Index start_strip = 0, sums_strip = 0;  // and from one strip to the next
};

// What a tile prefetches at each k: nothing; its share of what comes next, of which it takes two lines at most; or all
// that it will read itself some k later.
enum class Ahead { nothing, share, all };

// Times that the loop over k is written out: see FASTRNN_UNROLL_8. Where a large tile takes long enough for a branch to
// be foreseen too late anyway, fewer: they are half of all that there is to compile.
template <class V>
constexpr int unrolled(int sums) {
    return sums > 8 ? V::kUnrolled : V::kUnrolled >= 2 ? 8 : 4;
}

// Parts of a word that are multiplied one after the other, and the `part`-th of them.
template <class V>
constexpr int kParts = 1;
template <class V>
V part_of(V words, int) {
    return words;
}

// `Strips` of them side by side, for a few rows; else 1.
template <class V, int R, int Width, int Strips, Ahead prefetched>
void multiply(const Tile<typename V::Real>& tile) {
    using Real = typename V::Real;
    // Those of a single row lie side by side. That it is known here is 2 % of a step at H = 32.
    const Index start_strip = R == 1 ? Width * V::kLanes : tile.start_strip;
    const Index sums_strip = R == 1 ? Width * V::kLanes : tile.sums_strip;
    V sum[Strips][R][Width];
    for (int s = 0; s < Strips; ++s)
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < Width; ++v)
                sum[s][r][v] =
                    tile.start ? V::load(tile.start + r * tile.start_row + s * start_strip + v * V::kLanes) : V::zero();

    const Real* a[R];
    for (int r = 0; r < R; ++r) a[r] = tile.row[r] + tile.first_k * kParts<V>;
    const Real *strip = tile.strip, *ahead = tile.ahead;
    const Index strip_stride = tile.strip_stride, depth = tile.depth;
    [[maybe_unused]] const Index ahead_step = tile.ahead_step;
    // A lambda, not a function: with one GCC does not write the loop out, and streams are up to 8 % slower.
    const auto add = [&](Index k) FASTRNN_INLINE_LAMBDA {
        if constexpr (prefetched != Ahead::nothing) {
            constexpr Index lines = ceil_div(Width * V::kLanes, kLine<Real>);
            for (int s = 0; s < Strips; ++s)
                for (Index line = 0; line < (prefetched == Ahead::all ? lines : 1); ++line)
                    V::prefetch(ahead + s * strip_stride + line * kLine<Real>);
            if constexpr (prefetched == Ahead::share && lines > 1)
                if (ahead_step > kLine<Real>) V::prefetch(ahead + kLine<Real>);
            ahead += ahead_step;
        }
        for (int s = 0; s < Strips; ++s) {
            const Real* const weights = strip + s * strip_stride;
            const auto add_part = [&](int part) FASTRNN_INLINE_LAMBDA {
                V w[Width];
                for (int v = 0; v < Width; ++v) w[v] = part_of(V::load(weights + v * V::kLanes), part);
                for (int r = 0; r < R; ++r) {
                    const V scalar = V::broadcast(a[r][kParts<V> * k + part]);
                    for (int v = 0; v < Width; ++v) sum[s][r][v] = fma(scalar, w[v], sum[s][r][v]);
                }
            };
            add_part(0);
            if constexpr (kParts<V> > 1) add_part(1);
        }
        strip += Width * V::kLanes;
    };
    if constexpr (unrolled<V>(R * Strips * Width) == 8) {
        FASTRNN_UNROLL_8
        for (Index k = 0; k < depth; ++k) add(k);
    } else if constexpr (unrolled<V>(R * Strips * Width) == 4) {
        FASTRNN_UNROLL_4
        for (Index k = 0; k < depth; ++k) add(k);
    } else if constexpr (unrolled<V>(R * Strips * Width) == 2) {
        FASTRNN_UNROLL_2
        for (Index k = 0; k < depth; ++k) add(k);
    } else {
        for (Index k = 0; k < depth; ++k) add(k);
    }
    Real* const sums = tile.sums;
    const Index sums_row = tile.sums_row;
    for (int s = 0; s < Strips; ++s)
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < Width; ++v) sum[s][r][v].store(sums + r * sums_row + s * sums_strip + v * V::kLanes);
}

// Where a product is several instructions, it is not those that weights from far away have to wait for.
template <class V>
constexpr bool kFetches = V::kUnrolled > 1;

template <class V>
using Multiply = void (*)(const Tile<typename V::Real>&);

// The kernel for `rows` rows (1 .. R) and a strip of `Width` vectors, or `Strips` of them.
template <class V, Ahead prefetched, int Width, int R = max_rows<V>(Width), int Strips = 1>
Multiply<V> multiply_rows(int rows) {
    if constexpr (R > 1) {
        if (rows < R) return multiply_rows<V, prefetched, Width, R - 1, Strips>(rows);
    }
    return multiply<V, R, Width, Strips, prefetched>;
}

// The kernel for one row and `strips` strips (1 .. max_strips) of `Width` vectors.
template <class V, Ahead prefetched, int Width, int Strips = max_strips<V>(Width)>
Multiply<V> multiply_strips(int strips) {
    if constexpr (Strips > 1) {
        if (strips < Strips) return multiply_strips<V, prefetched, Width, Strips - 1>(strips);
    }
    return multiply<V, 1, Width, Strips, prefetched>;
}

template <int width>
struct Width {
    static constexpr int value = width;
};
// What `function` returns for a strip's width, which it gets as a constant.
template <class V, class Function>
Multiply<V> for_width(int strip_width, const Function& function) {
    switch (strip_width) {
        case 1: return function(Width<1>{});
        case 2: return function(Width<2>{});
        case 3: return function(Width<3>{});
        default: return function(Width<fastrnn::FASTRNN_ISA::strip_width<V>(4)>{});
    }
}

template <class V, Ahead prefetched>
Multiply<V> multiply_rows_for(int strip_width, int rows) {
    return for_width<V>(strip_width,
                        [&](auto width) { return multiply_rows<V, prefetched, decltype(width)::value>(rows); });
}

// Of up to rows_of_two_strips rows, and two strips.
template <class V>
Multiply<V> multiply_two_strips_for(int strip_width, int rows) {
    return for_width<V>(strip_width, [&](auto width) {
        constexpr int wide = decltype(width)::value;
        return multiply_rows<V, Ahead::nothing, wide, rows_of_two_strips<V>(wide), 2>(rows);
    });
}

template <class V, Ahead prefetched>
Multiply<V> multiply_strips_for(int strip_width, int strips) {
    return for_width<V>(strip_width,
                        [&](auto width) { return multiply_strips<V, prefetched, decltype(width)::value>(strips); });
}

template <class V>
void touch(const Touched<typename V::Real>& touched, Index row, Index rows, Index column, Index columns) {
    using Real = typename V::Real;
    for (int i = 0; i < touched.count; ++i)
        for (Index r = row; r < row + rows; ++r)
            for (Index c = column; c < column + columns; c += kLine<Real>)
                V::prefetch(touched.array[i].first + r * touched.array[i].row + c);
}

// A block of rows, the first of which is `first_row` of all, times one panel: sums (row, width). Where `far` is true
// the weights are not in L2, and those of panel `after` are fetched as well.
template <class V>
void multiply_block(const RowBlock<typename V::Real>& rows, PanelsOf<V> panels, Index panel, Index after, bool far,
                    const Touched<typename V::Real>* touched, Index first_row, typename V::Real* sums) {
    using Real = typename V::Real;
    const int width = panels.width_of(panel), wide = strip_width<V>(width);
    const Index strip_row = wide * V::kLanes, sums_row = width * V::kLanes;
    const Index k_step = panels.k_step(panel), strip_step = panels.strip_step(panel);
    const Real* const weights = panels.weights_of(panel);
    const Real* const start = panels.start_of(panel);
    // Tiles of nearly equal height: 16 rows are 6 + 5 + 5, not 6 + 6 + 4.
    const int count = static_cast<int>(rows.count), tiles = (count + max_rows<V>(wide) - 1) / max_rows<V>(wide);
    const int height = count / tiles, higher = count % tiles;
    const Multiply<V> high = multiply_rows_for<V, Ahead::nothing>(wide, height + (higher > 0)),
                      low = multiply_rows_for<V, Ahead::nothing>(wide, height);
    const bool prefetches = kFetches<V> && far && (tiles > 1 || !kWholeLines<V>);
    // Passes of equal length, and one where there is nothing to multiply, too.
    constexpr Index longest = kPassBytes / (kMaxWidth * V::kLanes * static_cast<Index>(sizeof(Real)));
    const Index passes = larger(1, ceil_div(panels->depth, longest)), pass = larger(1, ceil_div(panels->depth, passes));
    Tile<Real> tile;
    tile.sums_row = sums_row;
    for (Index k = 0; k == 0 || k < panels->depth; k += pass) {
        tile.first_k = k;
        tile.depth = panels->depth - k < pass ? panels->depth - k : pass;
        tile.start_row = k > 0 ? sums_row : 0;
        for (int s = 0; s * wide < width; ++s) {
            tile.row = rows.row;
            tile.strip = weights + s * strip_step + k * k_step;
            tile.sums = sums + s * strip_row;
            const Real* const next = (s + 1) * wide < width     ? tile.strip + strip_step
                                     : k + pass < panels->depth ? weights + (k + pass) * k_step
                                                                : panels.weights_of(after);
            for (int i = 0; i < tiles; ++i) {
                const int n = height + (i < higher);
                if (touched && k == 0 && s == 0)
                    touch<V>(*touched, first_row + (tile.row - rows.row), n, panel * panels->width * V::kLanes,
                             sums_row);
                tile.start = k > 0 ? tile.sums : start ? start + s * strip_row : nullptr;
                if (prefetches) {
                    // A single tile reads every line once, and asks for those that come next. Of several, each fetches
                    // its share of the next strip: all of it during the first would be more lines at a time than a core
                    // can wait for.
                    tile.ahead_step = ceil_div(strip_row, tiles);
                    tile.ahead = tiles == 1 ? tile.strip + kAhead<Real> : next + i * strip_row * tile.depth / tiles;
                    multiply_rows_for<V, kFetches<V> ? Ahead::share : Ahead::nothing>(wide, n)(tile);
                } else {
                    (i < higher ? high : low)(tile);
                }
                tile.row += n;
                tile.sums += n * sums_row;
            }
        }
    }
}

// Up to rows_of_two_strips rows times two panels, the sums of `other` after those of `panel`; or times the two strips
// of one, which is both.
template <class V>
void multiply_two(const RowBlock<typename V::Real>& rows, PanelsOf<V> panels, Index panel, Index other,
                  typename V::Real* sums) {
    const int count = static_cast<int>(rows.count), wide = strip_width<V>(panels->width);
    const Index strip_row = wide * V::kLanes, sums_row = panels->width * V::kLanes;
    const bool one = panel == other;
    Tile<typename V::Real> tile;
    tile.row = rows.row;
    tile.strip = panels.weights_of(panel);
    tile.strip_stride = one ? panels.strip_step(panel) : panels.offset(other) - panels.offset(panel);
    tile.depth = panels->depth;
    tile.start = panels.start_of(panel);
    tile.start_strip = one ? strip_row : (other - panel) * sums_row;
    tile.sums = sums;
    tile.sums_row = sums_row;
    tile.sums_strip = one ? strip_row : count * sums_row;
    multiply_two_strips_for<V>(wide, count)(tile);
}

// One row times `count` panels of the same width, which together have at most max_strips strips: sums (panel, width).
// `in_l2`: there the weights are.
template <class V>
void multiply_row(const typename V::Real* row, PanelsOf<V> panels, Index panel, Index count, bool in_l2,
                  typename V::Real* sums) {
    const int width = panels.width_of(panel), wide = strip_width<V>(width);
    Tile<typename V::Real> tile;
    tile.row = &row;
    tile.strip = panels.weights_of(panel);
    tile.strip_stride = panels.strip_step(panel);
    tile.depth = panels->depth;
    tile.start = panels.start_of(panel);
    tile.sums = sums;
    const int strips = static_cast<int>(count) * (width / wide);
    if constexpr (kWholeLines<V> && kFetches<V>) {
        if (in_l2) {
            tile.ahead_step = panels.k_step(panel);
            tile.ahead = tile.strip + kStepsAhead * tile.ahead_step;
            multiply_strips_for<V, Ahead::all>(wide, strips)(tile);
            return;
        }
    }
    multiply_strips_for<V, Ahead::nothing>(wide, strips)(tile);
}

// Of all panels of those that a thread takes.
template <class V>
Index elements(const Turns& turns, PanelsOf<V> panels) {
    return (turns.end - turns.begin) * panels->width * V::kLanes * panels->depth;
}

// product() of up to rows_of_two_strips rows.
template <class V>
FASTRNN_NOINLINE void product_of_few_rows(const Rows<typename V::Real>& rows, Index row_begin, Index row_end,
                                          PanelsOf<V> panels, const Turns& turns,
                                          const Epilogue<typename V::Real>& epilogue) {
    using Real = typename V::Real;
    alignas(64) Real sums[2 * kFewRows * kMaxWidth * V::kLanes];
    const RowBlock<Real> block(rows, row_begin, row_end);
    const auto times_one = [&](Index panel) {
        multiply_block<V>(block, panels, panel, panel, false, nullptr, 0, sums);
        epilogue.call(epilogue.context, row_begin, block.count, panel, panels.width_of(panel), sums);
    };
    const auto times_two = [&](Index panel, Index other) {
        multiply_two<V>(block, panels, panel, other, sums);
        epilogue.call(epilogue.context, row_begin, block.count, panel, panels->width, sums);
        if (other != panel)
            epilogue.call(epilogue.context, row_begin, block.count, other, panels->width,
                          sums + block.count * panels->width * V::kLanes);
    };
    Index waiting = -1;  // a panel, for another one
    for (Index panel, taken = 0; (panel = next_panel(turns, taken)) >= 0; ++taken) {
        if (panels.width_of(panel) < panels->width)
            times_one(panel);
        else if (strip_width<V>(panels->width) < panels->width)
            times_two(panel, panel);
        else if (waiting < 0)
            waiting = panel;
        else
            times_two(waiting, panel), waiting = -1;
    }
    if (waiting >= 0) times_one(waiting);
}

// product() of more rows.
template <class V>
FASTRNN_NOINLINE void product_of_rows(const Rows<typename V::Real>& rows, Index row_begin, Index row_end,
                                      PanelsOf<V> panels, const Turns& turns,
                                      const Epilogue<typename V::Real>& epilogue,
                                      const Touched<typename V::Real>* touched) {
    using Real = typename V::Real;
    alignas(64) Real sums[kRowBlock * kMaxWidth * V::kLanes];
    const bool far = elements(turns, panels) > kNear<Real>;
    RowBlock<Real> block(rows, row_begin, row_end);
    for (Index panel, taken = 0; (panel = next_panel(turns, taken)) >= 0; ++taken) {
        const Index after = smaller(larger(turns.backwards ? panel - 1 : panel + 1, 0), panels.count() - 1);
        for (Index first = row_begin; first < row_end; first += kRowBlock) {
            if (row_end - row_begin > kRowBlock) block = RowBlock<Real>(rows, first, row_end);
            multiply_block<V>(block, panels, panel, after, far, touched, first, sums);
            epilogue.call(epilogue.context, first, block.count, panel, panels.width_of(panel), sums);
        }
    }
}

// product() of a single row.
template <class V>
FASTRNN_NOINLINE void product_of_row(const typename V::Real* row, Index row_begin, PanelsOf<V> panels,
                                     const Turns& turns, const Epilogue<typename V::Real>& epilogue) {
    using Real = typename V::Real;
    constexpr auto at_once = [](int width) {
        return max_strips<V>(strip_width<V>(width)) * strip_width<V>(width) / width;
    };
    static_assert(kMaxWidth == 4);
    constexpr Index most_of[] = {0, at_once(1), at_once(2), at_once(3), at_once(4)};
    alignas(64) Real sums[kRowSums<V> * V::kLanes];
    const Index weights = elements(turns, panels);
    const bool in_l2 = weights > kNearest<Real> && weights <= kNear<Real>;
    // Of panels [first, end), at most `most`, from the last one if the turns go backwards.
    const auto take = [&](Index first, Index end) {
        while (first < end) {
            // Only the last of all panels may be narrower, and is then taken alone.
            const bool alone = end - first > 1 && panels.width_of(end - 1) != panels->width;
            const Index begin = alone && turns.backwards ? end - 1 : first;
            const Index after = alone && !turns.backwards ? end - 1 : end;
            multiply_row<V>(row, panels, begin, after - begin, in_l2, sums);
            epilogue.call(epilogue.context, row_begin, 1, begin,
                          static_cast<int>(after - begin) * panels.width_of(begin), sums);
            if (turns.backwards)
                end = begin;
            else
                first = after;
        }
    };
    const Index all = turns.end - turns.begin, most = most_of[panels->width];
    if (turns.team) {  // as many pieces for each of its members
        const Index members = turns.team->size();
        const Index pieces = members * ceil_div(turns.all, members * most);
        for (Index piece; (piece = turns.team->claim(pieces, turns.backwards)) >= 0;) {
            const Range panels_of = share(turns.all, piece, pieces);
            take(panels_of.begin, panels_of.end);
        }
        return;
    }
    Index each = all;
    if (all > most) each = ceil_div(all, ceil_div(all, most));  // divisions count, where a step takes 0.1 us
    for (Index i = 0; i < all; i += each) {
        const Index together = smaller(each, all - i), begin = turns.begin + i, end = turns.end - i;
        if (turns.backwards)
            take(end - together, end);
        else
            take(begin, begin + together);
    }
}

// See ProductKernels and ColumnKernels for what follows.

template <class V>
void product(const Rows<typename V::Real>& rows, Index row_begin, Index row_end, const Panels<typename V::Real>& of,
             const Turns& turns, const Epilogue<typename V::Real>& epilogue, const Touched<typename V::Real>* touched) {
    const PanelsOf<V> panels{of};
    const Index count = row_end - row_begin;
    if (count == 1)
        product_of_row<V>(row_at(rows, row_begin), row_begin, panels, turns, epilogue);
    else if (count > rows_of_two_strips<V>(strip_width<V>(panels->width)))
        product_of_rows<V>(rows, row_begin, row_end, panels, turns, epilogue, touched);
    else if (count > 1)
        product_of_few_rows<V>(rows, row_begin, row_end, panels, turns, epilogue);
}

template <class V>
void product_of_block(const Rows<typename V::Real>& rows, Index first, Index end,
                      const Panels<typename V::Real>& panels, Index panel, typename V::Real* sums) {
    const RowBlock<typename V::Real> block(rows, first, end);
    multiply_block<V>(block, PanelsOf<V>{panels}, panel, panel, false, nullptr, 0, sums);
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
