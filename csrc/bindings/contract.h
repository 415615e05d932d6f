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

// The cell that a function's option chooses: nonlinearity of rnn_*, reset_after of gru_*; null means the default.
// Families with one cell have no option, and ignore it.
Cell choose_cell(const Function& function, PyObject* option);

// The family that Python names, in static storage. ValueError if there is none.
const char* find_family(PyObject* name);

bool check_bool(const Function& function, const char* argument, PyObject* value);

// The distinct tokens of a whole sequence.
struct TokenTable {
    std::vector<std::int32_t> slot;  // (T, B)
    std::vector<std::int64_t> id;    // (D,)

    Tokens view() const { return {slot.data(), id.data()}; }
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

private:
    const void* pointer(PyObject* array);

    std::vector<pybind11::object> kept_;
};

// The arguments of a forward or step function: all have the right type and shape, and the sizes can be computed with.
// The references are borrowed; null is None.
struct Inputs {
    enum Argument { X, WIh, WHh, BIh, BHh, State0, Vectors = State0 + kMaxStates, Regularised, kArguments };

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
    PyObject* mask;              // (B, H)
    PyObject* keep[kMaxStates];  // (N, H) each, of T * B or all rows, or (1, H)
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

// A contiguous array of float32 or float64 for a probe.
struct Floats {
    Floats(const char* function, PyObject* array);

    bool single;
    Index size;
    PyObject* array;
};

// An array of this dtype, that of `reference`, and of this shape.
void check_floats(const Function& function, const char* argument, PyObject* value, bool single, const char* reference,
                  const char* letters, std::initializer_list<Index> shape);

// Whether any of the array's memory, from its first to its last element, is among these bytes.
bool overlaps(PyObject* array, const void* begin, Index bytes);

// An array that results can be written to as they are.
void check_output(const Function& function, const char* argument, PyObject* array);

// The tokens of one step, an array (B,) of any integer dtype, each in 0 .. I-1, to `ids`, which has room for them.
void check_tokens(const Function& function, const char* argument, PyObject* value, Index B, Index I, std::int64_t* ids);

[[noreturn]] void wrong_type(const std::string& function, const char* argument, PyObject* value,
                             const std::string& expected);

// A new array, not initialised; a large one on memory that is kept for others when it dies. The size is addressable.
pybind11::object new_array(bool single, std::initializer_list<Index> shape);

// One over (T, B) and n features, or over rows of different lengths (N) and n features.
pybind11::object new_sequence(bool single, const Sizes& size, Index n);

// Its memory.
template <class Real>
Real* data_of(const pybind11::object& array) {
    return static_cast<Real*>(static_cast<void*>(pybind11::detail::array_proxy(array.ptr())->data));
}

}  // namespace fastrnn
