// The door between Python and the core: types in, types out, no logic. Waits for the core without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "shardprof/format.h"
#include "shardprof/intervals.h"
#include "shardprof/trace_file.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// n x 2 int64: begin_ns, end_ns.
using IntervalArray = nb::ndarray<const int64_t, nb::numpy, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Column = nb::ndarray<nb::numpy, const T, nb::ndim<1>>;

std::span<const shardprof::Interval> as_span(const IntervalArray& array) {
  static_assert(sizeof(shardprof::Interval) == 2 * sizeof(int64_t));
  return {reinterpret_cast<const shardprof::Interval*>(array.data()), array.shape(0)};
}

// Hands a vector to NumPy, which frees it.
template <typename Array, typename T>
Array hand_over(std::vector<T>&& values, std::initializer_list<size_t> shape) {
  auto kept = std::make_unique<std::vector<T>>(std::move(values));
  const void* data = kept->data();
  nb::capsule owner(kept.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Array(data, shape, owner);
}

using Matrix = nb::ndarray<nb::numpy, const int64_t, nb::ndim<2>>;

Matrix hand_over_set(shardprof::IntervalSet&& set) {
  const size_t rows = set.size();
  return hand_over<Matrix>(std::move(set), {rows, 2});
}

// A view into the trace: the column lives as long as anything refers to it.
template <typename T>
Column<T> column(const shardprof::TraceFile& trace, const shardprof::Column<T>& values) {
  return Column<T>(values.data(), {values.size()}, nb::find(trace));
}

// Traces hold bytes that are no UTF-8, in kernel names of all places.
nb::str text(const std::string& value) {
  return nb::steal<nb::str>(PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), "replace"));
}

nb::list texts(const std::vector<std::string>& values) {
  nb::list list;
  for (const std::string& value : values) list.append(text(value));
  return list;
}

nb::list members(const shardprof::TraceFile& trace) {
  nb::list list;
  for (const shardprof::Member& member : trace.metadata) {
    list.append(nb::make_tuple(text(member.key), text(member.json)));
  }
  return list;
}

PyObject* exception_for(shardprof::ErrorCode code) {
  if (code == shardprof::ErrorCode::cannot_read) return PyExc_OSError;
  if (code == shardprof::ErrorCode::too_many_events) return PyExc_MemoryError;
  return code == shardprof::ErrorCode::too_much_text ? PyExc_OverflowError : PyExc_ValueError;
}

shardprof::TraceFile read_trace(int descriptor, std::vector<std::string> skip_categories,
                                std::vector<std::string> detail_name_prefixes, std::string detail_mark,
                                std::vector<std::string> detail_arguments, std::string detail_sequence,
                                std::vector<std::string> shape_arguments, uint64_t max_text_bytes,
                                uint64_t max_events) {
  const shardprof::ReadOptions options{
      std::move(skip_categories), std::move(detail_name_prefixes), std::move(detail_mark), std::move(detail_arguments),
      std::move(detail_sequence), std::move(shape_arguments),      max_text_bytes,         max_events};
  nb::gil_scoped_release unlocked;
  auto trace = shardprof::read_trace(descriptor, options);
  if (trace.ok()) return std::move(trace.value());
  nb::gil_scoped_acquire locked;
  PyErr_SetString(exception_for(trace.error().code), trace.error().message.c_str());
  throw nb::python_error();
}

Matrix merge(const IntervalArray& intervals) {
  shardprof::IntervalSet set;
  {
    nb::gil_scoped_release unlocked;
    set = shardprof::merge(as_span(intervals));
  }
  return hand_over_set(std::move(set));
}

Matrix intersect(const IntervalArray& a, const IntervalArray& b) {
  return hand_over_set(shardprof::intersect(as_span(a), as_span(b)));
}

Column<int64_t> covered_ns(const IntervalArray& set, const IntervalArray& windows) {
  const size_t rows = windows.shape(0);
  return hand_over<Column<int64_t>>(shardprof::covered_ns(as_span(set), as_span(windows)), {rows});
}

Matrix partition_ns(const std::vector<IntervalArray>& classes, const IntervalArray& windows) {
  std::vector<shardprof::IntervalSet> sets;
  for (const IntervalArray& array : classes) sets.emplace_back(as_span(array).begin(), as_span(array).end());
  std::vector<int64_t> cells;
  {
    nb::gil_scoped_release unlocked;
    cells = shardprof::partition_ns(sets, as_span(windows));
  }
  return hand_over<Matrix>(std::move(cells), {windows.shape(0), classes.size() + 1});
}

template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
struct Plain<std::atomic<T>> {
  using type = T;
};

// One field of the NCCL plugin's file, as NumPy describes it: name, type, offset.
template <typename T>
nb::tuple field(const char* name, size_t offset) {
  using Value = typename Plain<T>::type;
  const std::string kind = std::is_array_v<Value> ? "S" : std::is_signed_v<Value> ? "<i" : "<u";
  return nb::make_tuple(name, kind + std::to_string(sizeof(T)), offset);
}

#define FIELD(type, member) field<decltype(type::member)>(#member, offsetof(type, member))

nb::dict nccl_format() {
  namespace nccl = shardprof::nccl;
  using nccl::Communicator;
  using nccl::Header;
  using nccl::InFlight;
  using nccl::Operation;
  using nccl::Proxy;
  using nccl::Record;
  const auto parts = [](auto... fields) {
    nb::list list;
    (list.append(fields), ...);
    return list;
  };
  nb::dict format;
  format["magic"] = nb::bytes(nccl::magic.data(), nccl::magic.size());
  format["string_bytes"] = sizeof(nccl::String);
  format["string_slots"] = nccl::string_slots;
  format["communicator_slots"] = nccl::communicator_slots;
  format["in_flight_slots"] = nccl::in_flight_slots;
  format["ring_slots"] = nccl::ring_slots;
  format["strings_offset"] = nccl::strings_offset;
  format["communicators_offset"] = nccl::communicators_offset;
  format["in_flight_offset"] = nccl::in_flight_offset;
  format["ring_offset"] = nccl::ring_offset;
  format["file_bytes"] = nccl::file_bytes;
  format["record_offset"] = offsetof(InFlight, record);
  format["payload_offset"] = offsetof(Record, operation);
  format["record_bytes"] = sizeof(Record);
  format["communicator_bytes"] = sizeof(Communicator);
  format["in_flight_bytes"] = sizeof(InFlight);
  format["header"] =
      parts(FIELD(Header, record_bytes), FIELD(Header, interface), FIELD(Header, begun_ns), FIELD(Header, pid),
            FIELD(Header, events), FIELD(Header, head), FIELD(Header, tail), FIELD(Header, dropped),
            FIELD(Header, unslotted), FIELD(Header, evicted), FIELD(Header, stale), FIELD(Header, untabled));
  format["record"] =
      parts(FIELD(Record, stamp), FIELD(Record, kind), FIELD(Record, flags), FIELD(Record, communicator),
            FIELD(Record, function), FIELD(Record, datatype), FIELD(Record, channels), FIELD(Record, warps));
  format["operation"] = parts(
      FIELD(Operation, sequence), FIELD(Operation, count), FIELD(Operation, stream), FIELD(Operation, call_begin_ns),
      FIELD(Operation, enqueue_begin_ns), FIELD(Operation, enqueue_end_ns), FIELD(Operation, host_begin_ns),
      FIELD(Operation, host_end_ns), FIELD(Operation, gpu_begin_ns), FIELD(Operation, gpu_end_ns),
      FIELD(Operation, gpu_begin_spread_ns), FIELD(Operation, gpu_end_spread_ns), FIELD(Operation, root_or_peer),
      FIELD(Operation, algorithm), FIELD(Operation, protocol), FIELD(Operation, channels_ended));
  format["proxy"] =
      parts(FIELD(Proxy, sequence), FIELD(Proxy, begin_ns), FIELD(Proxy, end_ns), FIELD(Proxy, moved_bytes),
            FIELD(Proxy, gpu_wait_ns), FIELD(Proxy, peer_wait_ns), FIELD(Proxy, network_wait_ns), FIELD(Proxy, peer),
            FIELD(Proxy, steps), FIELD(Proxy, chunk_bytes), FIELD(Proxy, pid), FIELD(Proxy, channel));
  format["communicator"] = parts(FIELD(Communicator, state), FIELD(Communicator, rank), FIELD(Communicator, ranks),
                                 FIELD(Communicator, nodes), FIELD(Communicator, hash), FIELD(Communicator, name));
  format["in_flight"] =
      parts(FIELD(InFlight, state), FIELD(InFlight, enqueue_end_ns), FIELD(InFlight, host_begin_ns),
            FIELD(InFlight, host_end_ns), FIELD(InFlight, gpu_first_begin_ns), FIELD(InFlight, gpu_last_begin_ns),
            FIELD(InFlight, gpu_first_end_ns), FIELD(InFlight, gpu_last_end_ns));
  return format;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The compiled core of shardprof. Used through shardprof.engine only.";
  m.attr("ABSENT") = shardprof::absent;
  using shardprof::TraceFile;
  nb::class_<TraceFile>(m, "TraceFile")
      .def_prop_ro("begin_ns", [](const TraceFile& t) { return column(t, t.columns.begin_ns); })
      .def_prop_ro("end_ns", [](const TraceFile& t) { return column(t, t.columns.end_ns); })
      .def_prop_ro("name", [](const TraceFile& t) { return column(t, t.columns.name); })
      .def_prop_ro("category", [](const TraceFile& t) { return column(t, t.columns.category); })
      .def_prop_ro("thread", [](const TraceFile& t) { return column(t, t.columns.thread); })
      .def_prop_ro("correlation", [](const TraceFile& t) { return column(t, t.columns.correlation); })
      .def_prop_ro("external_id", [](const TraceFile& t) { return column(t, t.columns.external_id); })
      .def_prop_ro("stream", [](const TraceFile& t) { return column(t, t.columns.stream); })
      .def_prop_ro("shape", [](const TraceFile& t) { return column(t, t.columns.shape); })
      .def_prop_ro("detail_row", [](const TraceFile& t) { return column(t, t.detail_row); })
      .def_prop_ro("detail", [](const TraceFile& t) { return column(t, t.detail); })
      .def_prop_ro("detail_sequence", [](const TraceFile& t) { return column(t, t.detail_sequence); })
      .def_prop_ro("details", [](const TraceFile& t) { return texts(t.details.strings()); })
      .def_prop_ro("names", [](const TraceFile& t) { return texts(t.names.strings()); })
      .def_prop_ro("categories", [](const TraceFile& t) { return texts(t.categories.strings()); })
      .def_prop_ro("threads", [](const TraceFile& t) { return texts(t.threads.strings()); })
      .def_prop_ro("metadata", &members)
      .def_ro("text_bytes", &TraceFile::text_bytes)
      .def_ro("lost_events", &TraceFile::lost_events)
      .def_ro("first_lost_byte", &TraceFile::first_lost_byte)
      .def_ro("truncated", &TraceFile::truncated);
  m.def("read_trace", &read_trace, "descriptor"_a, "skip_categories"_a, "detail_name_prefixes"_a, "detail_mark"_a,
        "detail_arguments"_a, "detail_sequence"_a, "shape_arguments"_a, "max_text_bytes"_a, "max_events"_a);
  m.def("nccl_format", &nccl_format);
  m.def("merge", &merge, "intervals"_a);
  m.def("intersect", &intersect, "a"_a, "b"_a);
  m.def("covered_ns", &covered_ns, "set"_a, "windows"_a);
  m.def("partition_ns", &partition_ns, "classes"_a, "windows"_a);
}
