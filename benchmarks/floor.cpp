// What does it cost to read a trace and learn nothing from it? The floor below which no reader of the whole text gets:
//
//   floor TRACE.json.gz
//
// ISA-L inflates the whole file into one buffer, checking its CRC; then one thread walks `traceEvents`
// with simdjson On-Demand. Of each field of each event the key is taken as it is written, and the value's first token:
// all of a number or a string, the bracket of an object or a list, whose inside is skipped. No number is parsed, no
// key compared, nothing kept. Prints one JSON object: what was there, and the seconds that each half took.
#include <simdjson.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#if __has_include(<isa-l/igzip_lib.h>)
#include <isa-l/igzip_lib.h>
#else
#include <igzip_lib.h>
#endif

namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t compressed_chunk_bytes = size_t{1} << 18;
constexpr size_t max_text_bytes = UINT32_MAX - simdjson::SIMDJSON_PADDING;  // neither library takes more at once

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// Address space for the longest text; only what is written to becomes memory.
char* reserve_text() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* text = mmap(nullptr, UINT32_MAX, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (text == MAP_FAILED) throw std::runtime_error("no address space for the text");
  return static_cast<char*>(text);
}

// Returns the length of the text. A file of several gzip members is refused: Kineto writes one.
size_t inflate(const char* path, char* text) {
  const std::unique_ptr<std::FILE, FileCloser> file{std::fopen(path, "rb")};
  if (!file) throw std::runtime_error("the file cannot be opened");
  std::vector<uint8_t> chunk(compressed_chunk_bytes);
  const auto state = std::make_unique<inflate_state>();
  isal_inflate_init(state.get());
  state->crc_flag = ISAL_GZIP;
  state->next_out = reinterpret_cast<uint8_t*>(text);
  state->avail_out = static_cast<uint32_t>(max_text_bytes);
  while (state->block_state != ISAL_BLOCK_FINISH) {
    if (state->avail_in == 0) {
      state->next_in = chunk.data();
      state->avail_in = static_cast<uint32_t>(std::fread(chunk.data(), 1, chunk.size(), file.get()));
      if (state->avail_in == 0) throw std::runtime_error("the gzip data is cut off");
    }
    if (isal_inflate(state.get()) < 0) throw std::runtime_error("the gzip data is damaged");
    if (state->avail_out == 0) throw std::runtime_error("the text is longer than 4 GB");
  }
  if (state->avail_in != 0 || std::fgetc(file.get()) != EOF) throw std::runtime_error("more than one gzip member");
  return max_text_bytes - state->avail_out;
}

struct Seen {
  size_t events = 0;
  size_t fields = 0;
  size_t token_bytes = 0;  // printed, so that no compiler leaves the tokens out
};

Seen walk(const char* text, size_t bytes) {
  ondemand::parser parser;
  ondemand::document document = parser.iterate(text, bytes, bytes + simdjson::SIMDJSON_PADDING);
  Seen seen;
  for (ondemand::object event : document["traceEvents"].get_array()) {
    ++seen.events;
    for (auto field : event) {
      ++seen.fields;
      const char* key = field.key().value().raw();
      const std::string_view token = ondemand::value{field.value()}.raw_json_token();
      seen.token_bytes += static_cast<size_t>(token.data() + token.size() - key);
    }
  }
  return seen;
}

void run(const char* path) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  const auto begin = Clock::now();
  char* text = reserve_text();
  const size_t bytes = inflate(path, text);
  const auto inflated = Clock::now();
  const Seen seen = walk(text, bytes);
  const auto end = Clock::now();
  std::printf(
      R"({"events": %zu, "fields": %zu, "token_bytes": %zu, "text_bytes": %zu, "inflate_s": %.6f, "walk_s": %.6f, )"
      R"("simdjson": "%d.%d.%d %s"})"
      "\n",
      seen.events, seen.fields, seen.token_bytes, bytes, Seconds(inflated - begin).count(),
      Seconds(end - inflated).count(), simdjson::SIMDJSON_VERSION_MAJOR, simdjson::SIMDJSON_VERSION_MINOR,
      simdjson::SIMDJSON_VERSION_REVISION, simdjson::get_active_implementation()->name().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: floor TRACE.json.gz\n", stderr);
    return 2;
  }
  try {
    run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "floor: %s: %s\n", argv[1], error.what());
    return 1;
  }
  return 0;
}
