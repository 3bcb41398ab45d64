#include "shardprof/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "check.h"
#include "files.h"

namespace {

using shardprof::test::gzip;
using shardprof::test::TemporaryFile;
using shardprof::test::zstd;

const shardprof::ReadOptions options{};

// More text than the reader takes in at once.
std::string long_trace(int events) {
  std::string text = R"({"distributedInfo": {"rank": 1}, "traceEvents": [)";
  for (int i = 0; i < events; ++i) {
    text += (i > 0 ? ", " : "");
    text += R"({"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": )" + std::to_string(i) +
            R"(, "dur": 0.5})";
  }
  return text + R"(], "traceName": "t"})";
}

constexpr int events = 40'000;

shardprof::Result<shardprof::TraceFile> read(const TemporaryFile& file, const shardprof::ReadOptions& how = options) {
  const int descriptor = open(file.path().c_str(), O_RDONLY);
  auto trace = shardprof::read_trace(descriptor, how);
  close(descriptor);
  return trace;
}

std::string metadata(const shardprof::TraceFile& trace) {
  std::string all;
  for (const auto& member : trace.metadata) all += member.key + "=" + member.json + ";";
  return all;
}

void check_long_trace(const std::string& content) {
  const TemporaryFile file{content};
  auto trace = read(file);
  if (!CHECK(trace.ok())) return;
  const auto& columns = trace.value().columns;
  CHECK(columns.size() == events);
  CHECK(columns.begin_ns[0] == 0);
  CHECK(columns.end_ns[events - 1] == (events - 1) * 1000 + 500);
  CHECK(metadata(trace.value()) == R"(distributedInfo={"rank": 1};traceName="t";)");
  CHECK(trace.value().text_bytes == long_trace(events).size());
  CHECK(!trace.value().truncated);
  CHECK(trace.value().lost_events == 0);
}

void a_file_cut_off_gives_what_is_complete() {
  const std::string text = long_trace(events);
  const size_t cut = text.size() / 2;
  for (const std::string& content : {text.substr(0, cut), gzip(text.substr(0, cut)), gzip(text).substr(0, 60'000)}) {
    const TemporaryFile file{content};
    auto trace = read(file);
    if (!CHECK(trace.ok())) continue;
    CHECK(trace.value().truncated);
    CHECK(trace.value().columns.size() > 1000 && trace.value().columns.size() < events);
    CHECK(metadata(trace.value()) == R"(distributedInfo={"rank": 1};)");
  }
}

void what_is_no_trace_says_so() {
  for (const std::string& content : {std::string{}, std::string{"text"}, gzip(""), std::string{R"({"a": 1})"}}) {
    const TemporaryFile file{content};
    CHECK(read(file).error().code == shardprof::ErrorCode::not_a_trace);
  }
}

// A file that inflates to a thousand times its size must not fill the memory.
void text_without_end_is_refused() {
  const std::string block = gzip(std::string(size_t{32} << 20, ' '));
  for (const std::string_view head : {"{\"a\": \"", "[{\"name\": \""}) {
    std::string content = gzip(head);
    for (int i = 0; i < 12; ++i) content += block;
    const TemporaryFile file{content};
    auto trace = read(file);
    if (CHECK(!trace.ok())) CHECK(trace.error().code == shardprof::ErrorCode::too_large);
  }
}

void a_header_without_end_is_refused() {
  std::string text = "{";
  while (text.size() < (size_t{20} << 20)) text += R"("a": 1, )";
  const TemporaryFile file{gzip(text + R"("traceEvents": []})")};
  CHECK(read(file).error().code == shardprof::ErrorCode::too_large);
}

void more_text_than_allowed_is_refused() {
  const std::string text = long_trace(events);
  for (const std::string& content : {text, gzip(text), zstd(text)}) {
    const TemporaryFile file{content};
    shardprof::ReadOptions how = options;
    how.max_text_bytes = text.size();
    CHECK(read(file, how).ok());
    --how.max_text_bytes;
    const auto refused = read(file, how);
    CHECK(!refused.ok() && refused.error().code == shardprof::ErrorCode::too_much_text);
  }
}

void what_cannot_be_read_is_an_error() {
  CHECK(shardprof::read_trace(-1, options).error().code == shardprof::ErrorCode::cannot_read);
}

}  // namespace

int main() {
  check_long_trace(long_trace(events));
  check_long_trace(gzip(long_trace(events)));
  check_long_trace(zstd(long_trace(events)));
  a_file_cut_off_gives_what_is_complete();
  what_is_no_trace_says_so();
  text_without_end_is_refused();
  a_header_without_end_is_refused();
  more_text_than_allowed_is_refused();
  what_cannot_be_read_is_an_error();
  return shardprof::test::exit_code();
}
