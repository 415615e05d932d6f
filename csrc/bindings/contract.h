// Every check of what Python passes, and the text of every error, once: from arrays to the numbers of problem.h.
//
// TypeError: what is no array, or has a wrong dtype. ValueError: a wrong shape or value. Each names the function, the
// argument, what it got and what it expected.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <vector>

#include "problem.h"

namespace fastrnn {

// A public function, for messages: <family>_<verb>, unless it is called something else.
struct Function {
    const char* family;
    const char* verb;  // "forward", "backward", "step"
    const char* called = nullptr;

    std::string name() const { return called ? called : std::string(family) + "_" + verb; }
};

// The cell, and the family in static storage, that Python names. TypeError for what is no string, ValueError for none.
Cell find_cell(PyObject* name);
const char* find_family(PyObject* name);

// The cell that an option of a public function chooses: nonlinearity of rnn_*, reset_after of gru_*. Null means the
// default.
Cell cell_by_nonlinearity(const Function& function, PyObject* nonlinearity);
Cell cell_by_reset(const Function& function, PyObject* reset_after);

// The weight format that Python names, "float32" for plain.
WeightFormat find_format(const Function& function, PyObject* name);

// ValueError where rows are so long that sums of a format's products do not fit.
void check_rows(const Function& function, WeightFormat format, const Sizes& size);

bool check_bool(const Function& function, const char* argument, PyObject* value);

// A whole number from 0 to 2^48, with which sizes can be computed.
Index check_size(const Function& function, const char* argument, PyObject* value);

// The distinct tokens of a whole sequence.
struct TokenTable {
    std::vector<std::int32_t> slot;            // (T, B)
    std::vector<std::int64_t> id;              // (D,)
    std::vector<std::int32_t> frequent_place;  // (D,): see Tokens
    Index frequent = 0;

    Tokens view() const { return {slot.data(), id.data(), frequent_place.data(), frequent}; }
};

inline const CellInfo& info_of(Cell cell) { return kCells[static_cast<int>(cell)]; }

// Whether w_hh is W_hh (G*H, P) and W_hr (P, H), one behind the other.
inline bool projects(const CellInfo& info) { return info.recurrent > info.gates; }

// Keeps alive the copies of arrays that were not contiguous, aligned memory.
class Copies {
public:
    // The elements of an array that was checked, in C order; null for null.
    template <class Real>
    const Real* data(PyObject* array) {
        return static_cast<const Real*>(array ? pointer(array) : nullptr);
    }
    // Those of a copy, whether it is needed or not.
    template <class Real>
    const Real* copy(PyObject* array) {
        return static_cast<const Real*>(copied(array));
    }

private:
    const void* pointer(PyObject* array);
    const void* copied(PyObject* array);

    std::vector<pybind11::object> kept_;
};

// The arguments of a forward or step function: all have the right type and shape, and the sizes can be computed with.
// The references are borrowed; null is None.
struct Inputs {
    enum Argument { X, WIh, WHh, BIh, BHh, State0, Vectors = State0 + kMaxStates, Options, Regularised, kArguments };

    // `arguments` has an entry for each Argument, null or None where it was not given. In a step the first axis is
    // missing; with `row_counts`, an array (T,) of int64 or None, the first two are one, of N rows: see
    // Sizes::first_row.
    Inputs(const Function& function, Cell cell, PyObject* const* arguments, PyObject* row_counts = nullptr);

    bool dense() const { return !tokens; }
    // ValueError for a token outside 0 .. I-1.
    TokenTable token_table() const;
    std::vector<std::int64_t> token_list() const;

    Function function;
    Cell cell;
    bool single;  // float32, not float64
    bool tokens;
    std::vector<Index> first_row;  // (T + 1,), or empty
    Sizes size;                    // T is 1 in a step; D is still 0, and first_row null
    PyObject *x, *w_ih, *w_hh, *b_ih, *b_hh, *vectors;
    PyObject* state[kMaxStates];
    PyObject* options;           // unchecked: see options.h
    PyObject* mask;              // (B, H)
    PyObject* keep[kMaxStates];  // (N, H) each, of T * B or all rows, or (1, H)
};

// The weights of a layer in another format than plain, checked likewise.
struct FormatInputs {
    enum Argument { WIh, IhScales, WHh, HhScales, BIh, BHh, Vectors, kArguments };

    FormatInputs(const Function& function, Cell cell, WeightFormat format, PyObject* const* arguments);

    Sizes size;            // of no steps and one row
    PyObject* numbers[2];  // of W_ih and W_hh; null where a cell has none, here and below
    PyObject* scales[2];
    PyObject *b_ih, *b_hh, *vectors;
};

// The arguments of `linear`, checked likewise.
struct LinearInputs {
    enum Argument { X, Weight, Bias, Out, kArguments };

    explicit LinearInputs(PyObject* const* arguments);

    bool single;
    Index B, I, O;
    PyObject *x, *weight, *bias;
    PyObject* out;  // (B, O), apart from the others; null if it is to be made
};

// The gradients that come into a backward function, checked likewise.
struct Upstream {
    enum Argument { Y, State, kArguments = State + kMaxStates };

    Upstream(const Function& function, Cell cell, bool single, const Sizes& size, PyObject* const* arguments);

    PyObject* dy;
    PyObject* dstate[kMaxStates];
};

// An array of float32 or float64, of so many axes, or of any.
struct Floats {
    Floats(const char* function, PyObject* array, int axes = -1);

    bool single;
    Index size;
    const Index* shape;
    PyObject* array;
};

// The memory of an array of numbers, or of a copy if that has gaps.
struct Bytes {
    Bytes(const char* function, PyObject* array);

    const char* data;
    Index count;
    Copies copies;
};

// An array of this dtype, that of `reference`, and of this shape.
void check_floats(const Function& function, const char* argument, PyObject* value, bool single, const char* reference,
                  const char* letters, std::initializer_list<Index> shape);

// Whether two arrays' memory, from the first byte of their elements to the last, has any in common.
bool overlaps(PyObject* array, PyObject* other);

// An array that results can be written to as they are.
void check_output(const Function& function, const char* argument, PyObject* array);

// An array for results that shares no memory with another one.
void check_apart(const Function& function, const char* argument, PyObject* array, PyObject* other);

// The tokens of one step, an array (B,) of any integer dtype, each in 0 .. I-1, to `ids`, which has room for them.
void check_tokens(const Function& function, const char* argument, PyObject* value, Index B, Index I, std::int64_t* ids);

// The bools of an array (B,), to `flags`, which has room for them.
void check_flags(const Function& function, const char* argument, PyObject* value, Index B, char* flags);

[[noreturn]] void wrong_type(const std::string& function, const char* argument, PyObject* value,
                             const std::string& expected);

// A new array, not initialised; a large one on memory that is kept for others when it dies. The size is addressable.
pybind11::object new_array(bool single, const Index* shape, int axes);
inline pybind11::object new_array(bool single, std::initializer_list<Index> shape) {
    return new_array(single, shape.begin(), static_cast<int>(shape.size()));
}

// One of numbers as a format has them.
pybind11::object new_numbers(WeightFormat format, std::initializer_list<Index> shape);

// One over (T, B) and n features, or over rows of different lengths (N) and n features.
pybind11::object new_sequence(bool single, const Sizes& size, Index n);

// Its memory.
template <class Real>
Real* data_of(const pybind11::object& array) {
    return static_cast<Real*>(static_cast<void*>(pybind11::detail::array_proxy(array.ptr())->data));
}

}  // namespace fastrnn
