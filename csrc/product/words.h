// What weight formats of less than 32 bits have in common: words, in which several k of a row or a column lie together,
// low bits first. A format (Format below) says what a word is:
//
//   Vector              what multiplies words: WordsOf
//   kOfWord             how many k there are in one
//   Scale               what a unit's row of weights has for itself, such as what its integers are multiples of
//   scale_of(row, n)    of n weights
//   word(row, n, scale) of n weights, at most kOfWord, zeros beyond
//   weight(word, i)     the i-th of them again, but for its scale
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

template <class Format>
void pack_words(const GateRows<float>& rows, Index unit_blocks, Index panel, void* packed) {
    const int gates = rows.gates, blocks_of_panel = 1 << panel_shift(gates);
    float* const scales = static_cast<float*>(packed);
    const Panels<float> all{packed, unit_blocks * gates, blocks_of_panel * gates, rows.depth};
    const Panels<float> words = panels_of_words<Format>(all);
    const PanelsOf<typename Format::Vector> panels{words};
    const Index first = panel * blocks_of_panel, k_step = panels.k_step(panel);
    const int blocks = static_cast<int>(smaller(blocks_of_panel, unit_blocks - first));
    for (int v = 0; v < blocks * gates; ++v)
        for (Index lane = 0; lane < kWordLanes; ++lane) {
            const Index unit = (first + v / gates) * kWordLanes + lane;
            const Index n = unit < rows.units ? rows.depth : 0;
            const float* const row = rows.first + (v % gates * rows.apart + unit) * rows.depth;
            const float scale = Format::scale_of(row, n);
            if (Format::kScaled) scales[(panel * all.width + v) * kWordLanes + lane] = scale;
            float* to =
                static_cast<float*>(packed) + scales_size<Format>(all.vectors) + panels.vector_offset(panel, v) + lane;
            for (Index k = 0; k < rows.depth; k += Format::kOfWord, to += k_step) {
                const std::uint32_t word = Format::word(row + k, larger(0, smaller(Format::kOfWord, n - k)), scale);
                std::memcpy(to, &word, sizeof word);
            }
        }
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

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
