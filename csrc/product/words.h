// What weight formats of less than 32 bits have in common: words, in which several k of a row or a column lie together,
// low bits first. A format (Format below) says what a word is:
//
//   Vector           what multiplies words: WordsOf
//   Number           what a weight is before it is packed
//   kOfWord          how many k there are in one
//   kScaled          whether each row of weights has a scale, which its numbers are to be multiplied with
//   word(row, n)     of n numbers, at most kOfWord, zeros beyond
//   number(word, i)  the i-th of them again
//   weight(word, i)  its value, but for the scale
//
// Panels lie as plain ones do, of words; the scales of all columns come first, if there are any.
#pragma once

#include "tiles.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

constexpr int kWordLanes = Vec<float>::kLanes;

// A vector of words, as tiles.h wants it. Product adds the products of two of them to a third, and says how many times
// large loops of that are written out.
template <class Product>
struct WordsOf {
    using Real = float;
    static constexpr int kLanes = kWordLanes, kRegisters = Vec<float>::kRegisters, kUnrolled = Product::kUnrolled;
    Vec<float> v;

    static WordsOf load(const float* p) { return {Vec<float>::load(p)}; }
    static WordsOf broadcast(float word) { return {Vec<float>::broadcast(word)}; }
    static WordsOf zero() { return {Vec<float>::zero()}; }
    void store(float* p) const { v.store(p); }
    static void prefetch(const float* p) { Vec<float>::prefetch(p); }
    friend WordsOf fma(WordsOf x, WordsOf w, WordsOf sum) { return {Product::add(x.v, w.v, sum.v)}; }
};

template <class Format>
constexpr Index words_of(Index depth) {
    return ceil_div(depth, Format::kOfWord);
}

// Elements of the scales that come before the panels' words.
template <class Format>
constexpr Index scales_size(Index vectors) {
    return Format::kScaled ? vectors * kWordLanes : 0;
}

// The panels, of words.
template <class Format>
Panels<float> panels_of_words(const Panels<float>& panels) {
    if (panels.depth == 0) return panels;  // nothing has been packed
    return {static_cast<const float*>(panels.data) + scales_size<Format>(panels.vectors), panels.vectors, panels.width,
            words_of<Format>(panels.depth), panels.start};
}

template <class Format>
Index packed_words_size(Index units, int gates, Index depth) {
    const Index vectors = ceil_div(units, kWordLanes) * gates;
    return scales_size<Format>(vectors) + vectors * kWordLanes * strip_pitch(words_of<Format>(depth));
}

// Where the words of one panel of all unit blocks lie, and its scales: with each unit that there is of each of its
// gates `use` is called, with the number of its row, its first word, what the next ones are apart, and its scale.
template <class Format, class Memory, class Use>
void each_row(const GateRows& rows, Index unit_blocks, Index panel, Memory* packed, const Use& use) {
    const int gates = rows.gates, blocks_of_panel = 1 << panel_shift(gates);
    const Panels<float> all{packed, unit_blocks * gates, blocks_of_panel * gates, rows.depth};
    const Panels<float> words = panels_of_words<Format>(all);
    const PanelsOf<typename Format::Vector> panels{words};
    const Index first = panel * blocks_of_panel;
    const int blocks = static_cast<int>(smaller(blocks_of_panel, unit_blocks - first));
    for (int v = 0; v < blocks * gates; ++v)
        for (Index lane = 0; lane < kWordLanes; ++lane) {
            const Index unit = (first + v / gates) * kWordLanes + lane;
            const Index row = unit < rows.units ? v % gates * rows.apart + unit : -1;
            use(row, packed + scales_size<Format>(all.vectors) + panels.vector_offset(panel, v) + lane,
                panels.k_step(panel), packed + (panel * all.width + v) * kWordLanes + lane);
        }
}

template <class Format>
void pack_words(const GateRows& rows, const void* numbers, const float* scales, Index unit_blocks, Index panel,
                void* packed) {
    const auto* const first = static_cast<const typename Format::Number*>(numbers);
    const auto pack_row = [&](Index row, float* to, Index k_step, float* scale) {
        const Index n = row < 0 ? 0 : rows.depth;
        if (Format::kScaled) *scale = row < 0 ? 0 : scales[row];
        for (Index k = 0; k < rows.depth; k += Format::kOfWord, to += k_step) {
            const Index count = larger(0, smaller(Format::kOfWord, n - k));
            const std::uint32_t word = Format::word(count > 0 ? first + row * rows.depth + k : nullptr, count);
            std::memcpy(to, &word, sizeof word);
        }
    };
    each_row<Format>(rows, unit_blocks, panel, static_cast<float*>(packed), pack_row);
}

template <class Format>
void unpack_words(const GateRows& rows, const void* packed, Index unit_blocks, Index panel, void* numbers,
                  float* scales) {
    auto* const first = static_cast<typename Format::Number*>(numbers);
    const auto unpack_row = [&](Index row, const float* from, Index k_step, const float* scale) {
        if (row < 0) return;
        if (Format::kScaled) scales[row] = *scale;
        for (Index k = 0; k < rows.depth; ++k) {
            std::uint32_t word;
            std::memcpy(&word, from + k / Format::kOfWord * k_step, sizeof word);
            first[row * rows.depth + k] = Format::number(word, static_cast<int>(k % Format::kOfWord));
        }
    };
    each_row<Format>(rows, unit_blocks, panel, static_cast<const float*>(packed), unpack_row);
}

template <class Format>
void column_of_words(const Panels<float>& panels, Index panel, Index k, float* sums) {
    const Panels<float> words = panels_of_words<Format>(panels);
    const PanelsOf<typename Format::Vector> of{words};
    const float* const scales = static_cast<const float*>(panels.data) + panel * panels.width * kWordLanes;
    const float* const start = of.start_of(panel);
    for (int v = 0; v < of.width_of(panel); ++v) {
        const float* const at =
            static_cast<const float*>(words.data) + of.vector_offset(panel, v) + k / Format::kOfWord * of.k_step(panel);
        for (Index lane = 0; lane < kWordLanes; ++lane) {
            std::uint32_t word;
            std::memcpy(&word, at + lane, sizeof word);
            const Index place = v * kWordLanes + lane;
            const float weight = Format::weight(word, static_cast<int>(k % Format::kOfWord));
            sums[place] = (start ? start[place] : 0) + (Format::kScaled ? weight * scales[place] : weight);
        }
    }
}

// The kernels of a format, with those that it has for itself.
template <class Format>
constexpr ProductKernels<float> kernels_of_words(decltype(ProductKernels<float>::multiply) multiply,
                                                 decltype(ProductKernels<float>::multiply_block) multiply_block,
                                                 decltype(ProductKernels<float>::ready_size) ready_size,
                                                 decltype(ProductKernels<float>::make_ready) make_ready) {
    return {packed_words_size<Format>,
            pack_words<Format>,
            unpack_words<Format>,
            multiply,
            multiply_block,
            ready_size,
            make_ready,
            column_of_words<Format>};
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
