#include "contract.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>
#include <type_traits>

#include "buffer.h"
#include "gil.h"
#include "packed.h"
#include "run.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

using Api = py::detail::npy_api;

// Not kept in a static of ours: loading it imports NumPy, which may hand the GIL to a thread that then waits for the
// static.
const Api& api() { return Api::get(); }

const py::detail::PyArray_Proxy& fields(PyObject* array) { return *py::detail::array_proxy(array); }
const py::detail::PyArrayDescr_Proxy& dtype(PyObject* array) {
    return *py::detail::array_descriptor_proxy(fields(array).descr);
}

bool native(PyObject* array) {
    const std::uint16_t one = 1;
    char first;
    std::memcpy(&first, &one, 1);
    const char order = dtype(array).byteorder;
    return order == '=' || order == '|' || order == (first ? '<' : '>');
}

Index element_bytes(PyObject* array) {
    switch (dtype(array).type_num) {
        case Api::NPY_FLOAT_: return sizeof(float);
        case Api::NPY_DOUBLE_: return sizeof(double);
        default: return py::reinterpret_borrow<py::array>(array).itemsize();
    }
}

bool is_none(PyObject* value) { return !value || value == Py_None; }
bool is_array(PyObject* value) { return api().PyArray_Check_(value); }
bool is_float(PyObject* array, bool single) {
    return dtype(array).type_num == (single ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_) && native(array);
}
bool is_integer(PyObject* array) {
    return dtype(array).type_num >= Api::NPY_BYTE_ && dtype(array).type_num <= Api::NPY_ULONGLONG_ && native(array);
}

const char* dtype_name(bool single) { return single ? "float32" : "float64"; }

// Where an array's elements stand: from the first byte of the first to the last one's last; nowhere, if there are none.
struct Extent {
    explicit Extent(PyObject* array) : begin(fields(array).data), end(begin + element_bytes(array)) {
        for (int axis = 0; axis < fields(array).nd; ++axis) {
            if (fields(array).dimensions[axis] == 0) end = begin = nullptr;
            if (!begin) return;
            const Index reach = (fields(array).dimensions[axis] - 1) * fields(array).strides[axis];
            (reach < 0 ? begin : end) += reach;
        }
    }

    const char *begin, *end;
};

// --- what was got and what was expected, in words

std::string words(const std::vector<Index>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::vector<Index> shape_of(PyObject* array) {
    return {fields(array).dimensions, fields(array).dimensions + fields(array).nd};
}

std::string got(PyObject* value) {
    if (!value || value == Py_None) return "is None";
    if (is_array(value)) {
        std::string name = py::str(py::handle(fields(value).descr)).cast<std::string>();
        return "has dtype " + name + (native(value) ? "" : " (not in this machine's byte order)");
    }
    return std::string("is a ") + Py_TYPE(value)->tp_name;
}

// A shape in letters, with the number of gates in the place of G.
std::string legend(const char* letters, int gates) {
    std::string text = letters;
    const std::size_t at = text.find("G*");
    if (at != std::string::npos) text.replace(at, 2, gates == 1 ? "" : std::to_string(gates) + "*");
    return text;
}

// The checks of one call.
class Checks {
public:
    Checks(const Function& function, const CellInfo& cell) : function_(function), cell_(cell) {}

    [[noreturn]] void wrong_type(const char* argument, PyObject* value, const std::string& expected) const {
        fastrnn::wrong_type(function_.name(), argument, value, expected);
    }

    [[noreturn]] void wrong_value(const char* argument, const std::string& problem) const {
        throw py::value_error(function_.name() + ": " + argument + " " + problem);
    }

    // An array of this dtype, which is that of `reference`.
    void floats(const char* argument, PyObject* value, bool single, const char* reference) const {
        if (value && is_array(value) && is_float(value, single)) return;
        wrong_type(argument, value, std::string("a NumPy array of ") + dtype_name(single) + ", as " + reference);
    }

    // An array of either dtype; whether it is float32.
    bool any_floats(const char* argument, PyObject* value) const {
        const bool array = value && is_array(value), single = array && is_float(value, true);
        if (!single && !(array && is_float(value, false)))
            wrong_type(argument, value, "a NumPy array of float32 or float64");
        return single;
    }

    void shape(const char* argument, PyObject* array, const char* letters,
               std::initializer_list<Index> expected) const {
        if (fields(array).nd == static_cast<int>(expected.size()) &&
            std::equal(expected.begin(), expected.end(), fields(array).dimensions))
            return;
        wrong_value(argument, "has shape " + words(shape_of(array)) + ", expected " + legend(letters, cell_.gates) +
                                  " = " + words(expected));
    }

    // Where sizes are about to be taken from the shape.
    void axes(const char* argument, PyObject* array, const char* letters, int expected) const {
        if (fields(array).nd == expected) return;
        wrong_value(argument, "has shape " + words(shape_of(array)) + ", expected " + legend(letters, cell_.gates));
    }

    // Null for None.
    PyObject* optional(const char* argument, PyObject* value, bool single, const char* reference, const char* letters,
                       std::initializer_list<Index> expected) const {
        if (is_none(value)) return nullptr;
        floats(argument, value, single, reference);
        shape(argument, value, letters, expected);
        return value;
    }

private:
    const Function& function_;
    const CellInfo& cell_;
};

// --- tokens

// Where the elements of a vector or a matrix stand, in C order.
struct Elements {
    explicit Elements(PyObject* array) {
        const auto& a = fields(array);
        const bool matrix = a.nd == 2;
        data = a.data;
        columns = a.dimensions[matrix ? 1 : 0];
        count = (matrix ? a.dimensions[0] : 1) * columns;
        row_stride = matrix ? a.strides[0] : 0;
        stride = a.strides[matrix ? 1 : 0];
    }

    template <class Integer>
    Integer at(Index i) const {
        Integer value;
        std::memcpy(&value, data + i / columns * row_stride + i % columns * stride, sizeof value);
        return value;
    }

    // Calls use(value) for elements [begin, end), as long as it returns true; the index of the last one.
    template <class Integer, class Use>
    Index for_each(Index begin, Index end, const Use& use) const {
        for (Index i = begin; i < end;) {
            const char* element = data + i / columns * row_stride + i % columns * stride;
            const Index row_end = std::min(end, (i / columns + 1) * columns);
            for (; i < row_end; ++i, element += stride) {
                Integer value;
                std::memcpy(&value, element, sizeof value);
                if (!use(value)) return i;
            }
        }
        return end;
    }

    const char* data;
    Index count, columns, row_stride, stride;
};

// Calls use(Integer{}) with the C type of an array of integers.
template <class Use>
auto with_integer_type(PyObject* array, const Use& use) {
    switch (dtype(array).type_num) {
        case Api::NPY_BYTE_: return use(static_cast<signed char>(0));
        case Api::NPY_UBYTE_: return use(static_cast<unsigned char>(0));
        case Api::NPY_SHORT_: return use(short{});
        case Api::NPY_USHORT_: return use(static_cast<unsigned short>(0));
        case Api::NPY_INT_: return use(int{});
        case Api::NPY_UINT_: return use(unsigned{});
        case Api::NPY_LONG_: return use(long{});
        case Api::NPY_ULONG_: return use(static_cast<unsigned long>(0));
        case Api::NPY_LONGLONG_: return use(static_cast<long long>(0));
        default: return use(static_cast<unsigned long long>(0));
    }
}

// Calls use(token) for each token of x, (T, B) or (N,), outside the GIL if there are many. ValueError for one that is
// not in 0 .. I-1.
template <class Use>
void for_each_token(const Function& function, PyObject* x, Index I, const Use& use) {
    const Elements elements(x);
    with_integer_type(x, [&](auto zero) {
        using Integer = decltype(zero);
        const auto take = [&](Integer value) {
            bool inside = static_cast<std::uint64_t>(value) < static_cast<std::uint64_t>(I);
            if constexpr (std::is_signed_v<Integer>) inside = inside && value >= 0;
            if (inside) use(static_cast<std::int64_t>(value));
            return inside;
        };
        Index read = 0;
        in_parts(elements.count, kNumbersAtOnce, [&](Index begin, Index end) {
            read = elements.for_each<Integer>(begin, end, take);
            return read == end;
        });
        if (read == elements.count) return;
        const std::string row = fields(x).nd == 1 ? "" : std::to_string(read / elements.columns) + ", ";
        const std::string range = I == 0 ? "none, as I is 0" : "0 to I-1 = " + std::to_string(I - 1);
        throw py::value_error(function.name() + ": x[" + row + std::to_string(read % elements.columns) + "] is token " +
                              std::to_string(elements.at<Integer>(read)) + ", expected " + range);
    });
}

// Numbers distinct ids in the order in which they first come, with an open-addressed hash table.
class Numbering {
public:
    explicit Numbering(Index most_distinct) {
        std::size_t capacity = 16;
        while (capacity < 2 * static_cast<std::size_t>(most_distinct)) capacity *= 2;
        place_.assign(capacity, -1);
    }

    std::int32_t number(std::int64_t id, std::vector<std::int64_t>& ids) {
        const std::size_t mask = place_.size() - 1;
        // The multiplier is 2^64 divided by the golden ratio, which spreads neighbours.
        std::size_t at = static_cast<std::size_t>((static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15u) >> 32) & mask;
        for (; place_[at] >= 0; at = (at + 1) & mask)
            if (ids[static_cast<std::size_t>(place_[at])] == id) return place_[at];
        place_[at] = static_cast<std::int32_t>(ids.size());
        ids.push_back(id);
        return place_[at];
    }

private:
    std::vector<std::int32_t> place_;  // -1: free
};

// --- options

bool same_text(const char* a, const char* b) { return std::strcmp(a, b) == 0; }
bool equals(PyObject* text, const char* other) { return PyUnicode_CompareWithASCIIString(text, other) == 0; }

void check_row_counts(const Checks& checks, PyObject* counts) {
    if (!is_array(counts) || !is_integer(counts) || dtype(counts).type_num != Api::NPY_INT64_)
        checks.wrong_type("row_counts", counts, "an array (T,) of int64");
    checks.axes("row_counts", counts, "(T,)", 1);
}

// Where each step's rows begin, of `rows` in all.
std::vector<Index> first_rows(const Checks& checks, PyObject* counts, Index rows) {
    const Elements elements(counts);
    std::vector<Index> first{0};
    Index before = std::numeric_limits<Index>::max(), refused = 0;
    const bool good = in_parts(elements.count, kNumbersAtOnce, [&](Index begin, Index end) {
        return end == elements.for_each<std::int64_t>(begin, end, [&](std::int64_t count) {
            refused = count;
            if (count < 1 || count > before || count > rows - first.back()) return false;
            first.push_back(first.back() + (before = count));
            return true;
        });
    });
    if (!good)
        checks.wrong_value("row_counts", "has a count of " + std::to_string(refused) +
                                             ", expected at least 1, at most the one before, and x's " +
                                             std::to_string(rows) + " rows in all");
    if (first.back() != rows)
        checks.wrong_value("x", "has " + std::to_string(rows) +
                                    " rows, expected the sum of row_counts = " + std::to_string(first.back()));
    return first;
}

}  // namespace

Cell find_cell(PyObject* name) {
    if (!PyUnicode_Check(name)) throw py::type_error("cell " + got(name) + ", expected a string");
    Py_ssize_t length;
    const char* const characters = PyUnicode_AsUTF8AndSize(name, &length);
    if (!characters) throw py::error_already_set();  // lone surrogates: a ValueError
    const std::string_view wanted(characters, static_cast<std::size_t>(length));
    for (int i = 0; i < kCellCount; ++i)
        if (wanted == kCells[i].name) return static_cast<Cell>(i);
    throw py::value_error("there is no cell called " + py::repr(name).cast<std::string>());
}

const char* find_family(PyObject* name) {
    if (!PyUnicode_Check(name)) throw py::type_error("family " + got(name) + ", expected a string");
    for (const CellInfo& cell : kCells)
        if (equals(name, cell.family)) return cell.family;
    throw py::value_error("there is no family of cells called " + py::repr(name).cast<std::string>());
}

Cell cell_by_nonlinearity(const Function& function, PyObject* nonlinearity) {
    if (!nonlinearity) return Cell::rnn_tanh;
    if (!PyUnicode_Check(nonlinearity)) wrong_type(function.name(), "nonlinearity", nonlinearity, "a string");
    if (equals(nonlinearity, "tanh")) return Cell::rnn_tanh;
    if (equals(nonlinearity, "relu")) return Cell::rnn_relu;
    throw py::value_error(function.name() + ": nonlinearity is " + py::repr(nonlinearity).cast<std::string>() +
                          ", expected 'tanh' or 'relu'");
}

Cell cell_by_reset(const Function& function, PyObject* reset_after) {
    return !reset_after || check_bool(function, "reset_after", reset_after) ? Cell::gru_reset_after
                                                                            : Cell::gru_reset_before;
}

WeightFormat find_format(const Function& function, PyObject* name) {
    if (!PyUnicode_Check(name)) throw py::type_error(function.name() + ": format " + got(name) + ", expected a string");
    if (equals(name, "float32")) return WeightFormat::plain;
#define FASTRNN_IF_NAMED(format) \
    if (equals(name, #format)) return WeightFormat::format;
    FASTRNN_WEIGHT_FORMATS(FASTRNN_IF_NAMED)
#undef FASTRNN_IF_NAMED
    throw py::value_error(function.name() + ": there is no weight format called " + py::repr(name).cast<std::string>());
}

void check_rows(const Function& function, WeightFormat format, const Sizes& size) {
    constexpr Index most = 1 << 17;
    if (format != WeightFormat::int8 || std::max(size.I, size.H) <= most) return;
    throw py::value_error(function.name() + ": I is " + std::to_string(size.I) + " and H " + std::to_string(size.H) +
                          ", expected at most " + std::to_string(most) + " with weights of int8");
}

bool check_bool(const Function& function, const char* argument, PyObject* value) {
    if (value == Py_True) return true;
    if (value == Py_False) return false;
    const std::string_view type = value ? Py_TYPE(value)->tp_name : "";
    if (type == "numpy.bool" || type == "numpy.bool_") return PyObject_IsTrue(value) == 1;
    wrong_type(function.name(), argument, value, "a bool");
}

Index check_size(const Function& function, const char* argument, PyObject* value) {
    constexpr Py_ssize_t most = Py_ssize_t{1} << 48;
    if (!value || !PyIndex_Check(value) || PyBool_Check(value)) wrong_type(function.name(), argument, value, "an int");
    const Py_ssize_t size = PyNumber_AsSsize_t(value, nullptr);  // clipped where it does not fit
    if (size == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (size < 0 || size > most)
        throw py::value_error(function.name() + ": " + argument + " is " + py::repr(value).cast<std::string>() +
                              ", expected 0 to 2^48");
    return size;
}

void wrong_type(const std::string& function, const char* argument, PyObject* value, const std::string& expected) {
    throw py::type_error(function + ": " + argument + " " + got(value) + ", expected " + expected);
}

namespace {

// The shapes of W_ih and W_hh for I and H of a size, whose P is found.
void check_weight_shapes(const Checks& checks, const CellInfo& info, PyObject* w_ih, PyObject* w_hh, Sizes& size) {
    const Index I = size.I, H = size.H;
    if (projects(info)) {
        size.P = fields(w_hh).dimensions[0] / std::max<Index>(1, info.recurrent * H);
        if (size.P > H || (H > 0 && size.P == 0))
            checks.wrong_value("w_hh",
                               "has shape " + words(shape_of(w_hh)) + ", expected P from 1 to H = " + words({H}));
        checks.shape("w_hh", w_hh, "(G*H*P + P*H,)", {info.recurrent * H * size.P});
    } else if (w_hh) {
        checks.shape("w_hh", w_hh, "(G*H, H)", {info.recurrent * H, H});
    }
    checks.shape("w_ih", w_ih, "(G*H, I)", {info.gates * H, I});
}

// What NumPy calls the numbers of a format.
struct NumberType {
    int number;
    const char* name;
};
NumberType number_type(WeightFormat format) {
    if (format == WeightFormat::int8) return {Api::NPY_BYTE_, "int8"};
    return {Api::NPY_USHORT_, "uint16"};
}

}  // namespace

FormatInputs::FormatInputs(const Function& function, Cell cell, WeightFormat format, PyObject* const* arguments) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const Checks checks(function, info);
    const auto [type, type_name] = number_type(format);
    const char *const name[] = {"w_ih", "w_hh"}, *const scales_name[] = {"ih_scales", "hh_scales"};
    const int axes[] = {2, projects(info) ? 1 : 2};
    for (int hidden = 0; hidden < 2; ++hidden) {
        PyObject* const given = arguments[hidden ? WHh : WIh];
        numbers[hidden] = scales[hidden] = nullptr;
        if (hidden && !info.recurrent) {
            if (!is_none(given)) checks.wrong_type(name[hidden], given, "None");
            continue;
        }
        if (!given || !is_array(given) || dtype(given).type_num != type || !native(given))
            checks.wrong_type(name[hidden], given, std::string("a NumPy array of ") + type_name);
        checks.axes(name[hidden], given, axes[hidden] == 2 ? "(G*H, I)" : "(G*H*P + P*H,)", axes[hidden]);
        numbers[hidden] = given;
    }
    const Index* const shape = fields(numbers[0]).dimensions;
    const bool square = numbers[1] && axes[1] == 2;
    size = {0, 1, shape[1], square ? fields(numbers[1]).dimensions[1] : shape[0] / info.gates, 0};
    if (size.H > std::numeric_limits<Index>::max() / 16 || !addressable(info, size))
        checks.wrong_value("I, H", "= " + words({size.I, size.H}) + " is more than memory can hold");
    check_weight_shapes(checks, info, numbers[0], numbers[1], size);
    check_rows(function, format, size);
    for (int hidden = 0; hidden < 2; ++hidden) {
        PyObject* const given = arguments[hidden ? HhScales : IhScales];
        const bool scaled = format == WeightFormat::int8 && numbers[hidden];
        if (!scaled && !is_none(given)) checks.wrong_type(scales_name[hidden], given, "None");
        if (!scaled) continue;
        checks.floats(scales_name[hidden], given, true, "x");
        const PackedLayout layout{nullptr, cell, format, true, true, size.I, size.H, size.P};
        checks.shape(scales_name[hidden], given, "(rows,)", {matrix_size(layout, hidden != 0).rows});
        scales[hidden] = given;
    }
    const Index rows = info.gates * size.H;
    b_ih = checks.optional("b_ih", arguments[BIh], true, "x", "(G*H,)", {rows});
    b_hh = checks.optional("b_hh", arguments[BHh], true, "x", "(G*H,)", {rows});
    vectors = checks.optional("vectors", arguments[Vectors], true, "x", "(V, H)", {info.vectors, size.H});
    if ((info.vectors > 0) != (vectors != nullptr))
        checks.wrong_type("vectors", arguments[Vectors], info.vectors > 0 ? "a NumPy array of float32" : "None");
}

Inputs::Inputs(const Function& function, Cell cell, PyObject* const* arguments, PyObject* row_counts)
    : function(function), cell(cell) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const Checks checks(function, info);
    const bool step = same_text(function.verb, "step");
    const bool rows_differ = !is_none(row_counts), flat = step || rows_differ;
    const char* const axes = step ? "(B, I)" : rows_differ ? "(N, I)" : "(T, B, I)";
    const char* const state_names[kMaxStates] = {step ? "h" : "h0", step ? "c" : "c0"};

    x = arguments[X];
    w_ih = arguments[WIh];
    w_hh = arguments[WHh];
    const bool array = x && is_array(x);
    tokens = array && is_integer(x);
    if (!tokens) {
        single = array && is_float(x, true);
        if (!single && !(array && is_float(x, false)))
            checks.wrong_type("x", x, "a NumPy array of float32 or float64, or of integers (tokens)");
        if (fields(x).nd != (flat ? 2 : 3))
            checks.wrong_value("x", "has shape " + words(shape_of(x)) + ", expected " + axes);
    } else if (fields(x).nd != (flat ? 1 : 2)) {
        // Integers are tokens or a mistake, and with this shape they are a mistake.
        checks.wrong_type("x", x,
                          std::string("float32 or float64 for shape ") + words(shape_of(x)) +
                              "; integers are tokens, of shape " +
                              (step          ? "(B,)"
                               : rows_differ ? "(N,)"
                                             : "(T, B)"));
    }
    const char* const reference = tokens ? "w_ih" : "x";
    if (tokens) {
        single = checks.any_floats("w_ih", w_ih);
    } else {
        checks.floats("w_ih", w_ih, single, reference);
    }
    const bool with_projection = projects(info);
    if (info.recurrent) {
        checks.floats("w_hh", w_hh, single, reference);
        checks.axes("w_hh", w_hh, with_projection ? "(G*H*P + P*H,)" : "(G*H, H)", with_projection ? 1 : 2);
    } else if (!is_none(w_hh)) {
        checks.wrong_type("w_hh", w_hh, "None");
    } else {
        w_hh = nullptr;
    }
    checks.axes("w_ih", w_ih, "(G*H, I)", 2);
    const Index* const x_shape = fields(x).dimensions;
    const Index H = w_hh && !with_projection ? fields(w_hh).dimensions[1] : fields(w_ih).dimensions[0] / info.gates,
                I = fields(w_ih).dimensions[1];
    if (rows_differ) check_row_counts(checks, row_counts);
    const Index T = step ? 1 : rows_differ ? fields(row_counts).dimensions[0] : x_shape[0];
    size = {T, rows_differ ? 0 : x_shape[step ? 0 : 1], I, H, 0};
    // H may come from an array of stride 0 and be anything; G*H must not overflow before it is compared.
    if (H > std::numeric_limits<Index>::max() / 16)
        checks.wrong_value("w_hh", "has shape " + words(shape_of(w_hh)) + ", which is more than memory can hold");
    // What is impossible is refused before anything that takes time.
    Sizes most = size;
    if (rows_differ) most.T = x_shape[0], most.B = 1;
    if (tokens) most.D = T > 0 ? 1 : 0;
    if (T > most.T || !addressable(info, most))
        checks.wrong_value("T, B, I, H", "= " + words({most.T, most.B, I, H}) + " is more than memory can hold");
    if (rows_differ) {
        first_row = first_rows(checks, row_counts, x_shape[0]);
        size.B = T > 0 ? first_row[1] : 0;
    }
    const Index B = size.B, rows = info.gates * H;
    check_weight_shapes(checks, info, w_ih, w_hh, size);
    if (!tokens && flat) checks.shape("x", x, axes, {x_shape[0], I});
    if (!tokens && !flat) checks.shape("x", x, axes, {T, B, I});
    b_ih = checks.optional("b_ih", arguments[BIh], single, reference, "(G*H,)", {rows});
    b_hh = checks.optional("b_hh", arguments[BHh], single, reference, "(G*H,)", {rows});
    vectors = nullptr;
    if (info.vectors > 0) {
        vectors = arguments[Vectors];
        checks.floats("vectors", vectors, single, reference);
        checks.shape("vectors", vectors, "(V, H)", {info.vectors, H});
    } else if (!is_none(arguments[Vectors])) {
        checks.wrong_type("vectors", arguments[Vectors], "None");
    }
    for (int s = 0; s < info.states; ++s)
        state[s] = checks.optional(state_names[s], arguments[State0 + s], single, reference, "(B, H)", {B, H});

    options = arguments[Options];
    mask = nullptr;
    for (PyObject*& each : keep) each = nullptr;
    if (PyObject* const given = arguments[Regularised]; !is_none(given)) {
        if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 1 + info.states)
            checks.wrong_type("regularised", given, "a tuple of a mask and a share to keep for each state, or None");
        const auto plain = [&](const char* name, PyObject* array, Index array_rows) {
            PyObject* const checked = checks.optional(name, array, single, reference, "(N, H)", {array_rows, H});
            if (checked) check_output(function, name, checked);  // as it is: the tape refers to it
            return checked;
        };
        mask = plain("mask", PyTuple_GET_ITEM(given, 0), B);
        const Index all = rows_differ ? first_row.back() : T * B;
        for (int s = 0; s < info.states; ++s) {
            PyObject* const array = PyTuple_GET_ITEM(given, 1 + s);
            const bool one =
                !is_none(array) && is_array(array) && fields(array).nd == 2 && fields(array).dimensions[0] == 1;
            keep[s] = plain("keep", array, one ? 1 : all);
        }
    }
}

TokenTable Inputs::token_table() const {
    TokenTable table;
    const Index count = first_row.empty() ? size.T * size.B : first_row.back();
    const Index most_distinct = count < size.I ? count : size.I;
    if (most_distinct > std::numeric_limits<std::int32_t>::max())
        throw py::value_error(function.name() + ": x has more than 2^31 - 1 tokens");
    Numbering numbering(most_distinct);
    table.slot.reserve(static_cast<std::size_t>(count));
    for_each_token(function, x, size.I, [&](std::int64_t id) { table.slot.push_back(numbering.number(id, table.id)); });
    // Of a sum of few terms rounding leaves out less than a millionth.
    constexpr std::int32_t few = 16;
    table.frequent_place.assign(table.id.size(), 0);
    in_parts(count, kNumbersAtOnce, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            std::int32_t& times =
                table.frequent_place[static_cast<std::size_t>(table.slot[static_cast<std::size_t>(i)])];
            if (times <= few) ++times;
        }
        return true;
    });
    for (std::int32_t& place : table.frequent_place)
        place = place > few ? static_cast<std::int32_t>(table.frequent++) : -1;
    return table;
}

std::vector<std::int64_t> Inputs::token_list() const {
    std::vector<std::int64_t> ids;
    ids.reserve(static_cast<std::size_t>(size.B));
    for_each_token(function, x, size.I, [&](std::int64_t id) { ids.push_back(id); });
    return ids;
}

LinearInputs::LinearInputs(PyObject* const* arguments)
    : x(arguments[X]), weight(arguments[Weight]), bias(nullptr), out(nullptr) {
    const Function function{"", "", "linear"};
    const Checks checks(function, kCells[0]);
    single = checks.any_floats("weight", weight);
    checks.axes("weight", weight, "(O, I)", 2);
    O = fields(weight).dimensions[0], I = fields(weight).dimensions[1];
    checks.floats("x", x, single, "weight");
    checks.axes("x", x, "(B, I)", 2);
    B = fields(x).dimensions[0];
    checks.shape("x", x, "(B, I)", {B, I});
    bias = checks.optional("bias", arguments[Bias], single, "weight", "(O,)", {O});
    out = checks.optional("out", arguments[Out], single, "weight", "(B, O)", {B, O});
    if (!out) return;
    check_output(function, "out", out);
    for (PyObject* const in : {x, weight, bias})
        if (in) check_apart(function, "out", out, in);
}

void check_floats(const Function& function, const char* argument, PyObject* value, bool single, const char* reference,
                  const char* letters, std::initializer_list<Index> shape) {
    const Checks checks(function, kCells[0]);
    checks.floats(argument, value, single, reference);
    checks.shape(argument, value, letters, shape);
}

bool overlaps(PyObject* array, PyObject* other) {
    const Extent a(array), b(other);
    return a.begin < b.end && b.begin < a.end;
}

void check_output(const Function& function, const char* argument, PyObject* array) {
    constexpr int plain = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_;
    if ((fields(array).flags & plain) != plain)
        throw py::value_error(function.name() + ": " + argument +
                              " is read-only or has gaps, expected a writable C-contiguous array");
}

void check_apart(const Function& function, const char* argument, PyObject* array, PyObject* other) {
    if (overlaps(array, other))
        throw py::value_error(function.name() + ": " + argument +
                              " shares memory with an input, expected an array apart from them");
}

void check_flags(const Function& function, const char* argument, PyObject* value, Index B, char* flags) {
    if (!value || !is_array(value) || dtype(value).type_num != Api::NPY_BOOL_)
        wrong_type(function.name(), argument, value, "a NumPy array of bool");
    Checks(function, kCells[0]).shape(argument, value, "(B,)", {B});
    const Elements elements(value);
    elements.for_each<char>(0, B, [&](char flag) { return *flags++ = flag, true; });
}

void check_tokens(const Function& function, const char* argument, PyObject* value, Index B, Index I,
                  std::int64_t* ids) {
    if (!value || !is_array(value) || !is_integer(value))
        wrong_type(function.name(), argument, value, "a NumPy array of integers (tokens)");
    Checks(function, kCells[0]).shape(argument, value, "(B,)", {B});
    for_each_token(function, value, I, [&](std::int64_t id) { *ids++ = id; });
}

Upstream::Upstream(const Function& function, Cell cell, bool single, const Sizes& size, PyObject* const* arguments) {
    const CellInfo& info = kCells[static_cast<int>(cell)];
    const Checks checks(function, info);
    const char* const names[kMaxStates] = {"dh_n", "dc_n"};
    if (size.first_row)
        dy = checks.optional("dy", arguments[Y], single, "the tape", "(N, H)", {size.first_row[size.T], size.H});
    else
        dy = checks.optional("dy", arguments[Y], single, "the tape", "(T, B, H)", {size.T, size.B, size.H});
    for (int s = 0; s < info.states; ++s)
        dstate[s] = checks.optional(names[s], arguments[State + s], single, "the tape", "(B, H)", {size.B, size.H});
}

Floats::Floats(const char* function, PyObject* array, int axes) : single(false), size(1), shape(nullptr), array(array) {
    const Function called{"", "", function};
    const Checks checks(called, kCells[0]);
    single = checks.any_floats("array", array);
    if (axes >= 0) checks.axes("array", array, "(N, n)", axes);
    shape = fields(array).dimensions;
    for (int i = 0; i < fields(array).nd; ++i) size *= fields(array).dimensions[i];
}

Bytes::Bytes(const char* function, PyObject* array) : data(nullptr), count(0) {
    const Function called{"", "", function};
    if (!array || !is_array(array) || !(is_float(array, true) || is_float(array, false) || is_integer(array)))
        wrong_type(called.name(), "array", array, "a NumPy array of float32, float64 or integers");
    data = static_cast<const char*>(static_cast<const void*>(copies.data<char>(array)));
    count = element_bytes(array);
    for (int i = 0; i < fields(array).nd; ++i) count *= fields(array).dimensions[i];
}

const void* Copies::pointer(PyObject* array) {
    constexpr int plain = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_;
    return (fields(array).flags & plain) == plain ? fields(array).data : copied(array);
}

// A large one by parts of its longest axis, so that signals are seen in between; NumPy lets other threads run.
const void* Copies::copied(PyObject* array) {
    constexpr Index most = Index{32} << 20;
    const Index* const shape = fields(array).dimensions;
    const int axes = fields(array).nd;
    Index bytes = element_bytes(array);
    for (int i = 0; i < axes; ++i) bytes *= shape[i];
    if (bytes <= most) {
        PyObject* const copy = api().PyArray_NewCopy_(array, 0);  // in C order
        if (!copy) throw py::error_already_set();
        kept_.push_back(py::reinterpret_steal<py::object>(copy));
    } else {
        PyObject* const like =
            api().PyArray_NewFromDescr_(api().PyArray_Type_, py::handle(fields(array).descr).inc_ref().ptr(), axes,
                                        shape, nullptr, nullptr, 0, nullptr);
        if (!like) throw py::error_already_set();
        kept_.push_back(py::reinterpret_steal<py::object>(like));
        const int axis = static_cast<int>(std::max_element(shape, shape + axes) - shape);
        const Index at_once = std::max<Index>(1, most / (bytes / shape[axis]));
        for (Index begin = 0; begin < shape[axis]; begin += at_once) {
            if (begin > 0 && PyErr_CheckSignals() != 0) throw py::error_already_set();
            py::tuple part(axis + 1);
            for (std::size_t i = 0; i < part.size(); ++i) part[i] = py::slice(py::none(), py::none(), py::none());
            part[static_cast<std::size_t>(axis)] = py::slice(begin, std::min(begin + at_once, shape[axis]), 1);
            kept_.back()[part] = py::handle(array)[part];
        }
    }
    return fields(kept_.back().ptr()).data;
}

py::object new_array(bool single, const Index* shape, int axes) {
    std::size_t bytes = single ? sizeof(float) : sizeof(double);
    for (int i = 0; i < axes; ++i) bytes *= static_cast<std::size_t>(shape[i]);
    std::unique_ptr<Buffer> memory;
    if (bytes >= Buffer::kSmallestKept) memory = std::make_unique<Buffer>(bytes);
    PyObject* const descr = api().PyArray_DescrFromType_(single ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_);
    // Takes over the reference to descr.
    PyObject* const array =
        api().PyArray_NewFromDescr_(api().PyArray_Type_, descr, axes, shape, nullptr, memory ? memory->data() : nullptr,
                                    memory ? Api::NPY_ARRAY_WRITEABLE_ : 0, nullptr);
    if (!array) throw py::error_already_set();
    py::object result = py::reinterpret_steal<py::object>(array);
    if (memory) {
        py::capsule owner(memory.get(), [](void* owned) { delete static_cast<Buffer*>(owned); });
        memory.release();
        if (api().PyArray_SetBaseObject_(array, owner.release().ptr()) < 0) throw py::error_already_set();
    }
    return result;
}

py::object new_numbers(WeightFormat format, std::initializer_list<Index> shape) {
    PyObject* const descr = api().PyArray_DescrFromType_(number_type(format).number);
    PyObject* const array = api().PyArray_NewFromDescr_(api().PyArray_Type_, descr, static_cast<int>(shape.size()),
                                                        shape.begin(), nullptr, nullptr, 0, nullptr);
    if (!array) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(array);
}

py::object new_sequence(bool single, const Sizes& size, Index n) {
    if (size.first_row) return new_array(single, {size.first_row[size.T], n});
    return new_array(single, {size.T, size.B, n});
}

}  // namespace fastrnn
