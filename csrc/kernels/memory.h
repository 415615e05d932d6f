// Parts of vectors, and what is made of memory by vectors.
#pragma once

#include <cstring>

#include "../layout.h"
#include "vec.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

constexpr int at_least_one(int n) { return n > 0 ? n : 1; }  // the length of an array

template <class Real>
constexpr Index kLine = 64 / static_cast<Index>(sizeof(Real));

// Planes of gates and rows of states are read by whole vectors: Hp is H rounded up to them.
template <class V>
constexpr Index padded(Index H) {
    return ceil_div(H, V::kLanes) * V::kLanes;
}

template <class V>
V load_part(const typename V::Real* p, Index n) {
    return n == V::kLanes ? V::load(p) : V::load_n(p, n);
}

template <class V>
void store_part(V v, typename V::Real* p, Index n) {
    if (n == V::kLanes)
        v.store(p);
    else
        v.store_n(p, n);
}

// The vectors of so many rows, `to_second` elements apart if they are two. Two are whole ones.
template <class V, int rows>
struct RowsAtOnce {
    using Vector = V;
    static V load(const typename V::Real* p, Index, Index n) { return load_part<V>(p, n); }
    static void store(V v, typename V::Real* p, Index, Index n) { store_part(v, p, n); }
};
template <class V>
struct RowsAtOnce<V, 2> {
    using Vector = Pair<V>;
    static Vector load(const typename V::Real* p, Index to_second, Index) {
        return {V::load(p), V::load(p + to_second)};
    }
    static void store(Vector v, typename V::Real* p, Index to_second, Index) { v.a.store(p), v.b.store(p + to_second); }
};

// to (columns, to_pitch) = from (rows, from_pitch), transposed.
template <class V>
FASTRNN_NOINLINE void transpose(const typename V::Real* from, Index from_pitch, Index rows, Index columns,
                                typename V::Real* to, Index to_pitch) {
    constexpr Index lanes = V::kLanes;
    for (Index row = 0; row < rows; row += lanes) {
        for (Index column = 0; column < columns; column += lanes) {
            const Index height = smaller(lanes, rows - row), width = smaller(lanes, columns - column);
            V square[lanes];
            for (Index i = 0; i < lanes; ++i)
                square[i] = i < height ? load_part<V>(from + (row + i) * from_pitch + column, width) : V::zero();
            transpose(square);
            for (Index i = 0; i < width; ++i) store_part(square[i], to + (column + i) * to_pitch + row, height);
        }
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
