// Files of any bytes: as they are, and as the compressed form of themselves with one byte changed. Whatever comes out
// is bounded, and what was not damaged comes out whole.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "../tests/files.h"
#include "require.h"
#include "shardprof/byte_source.h"

namespace {

constexpr size_t most_text = size_t{1} << 20;

struct Text {
  std::string text;
  bool whole = false;  // read to its end without any damage
};

Text read_all(std::string_view content, size_t capacity) {
  static const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
  REQUIRE(ftruncate(descriptor, 0) == 0 && lseek(descriptor, 0, SEEK_SET) == 0);
  REQUIRE(write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  lseek(descriptor, 0, SEEK_SET);
  auto source = shardprof::open_byte_source(descriptor);
  if (!source.ok()) return {};
  Text all;
  std::string piece(capacity, '\0');
  while (all.text.size() < most_text) {
    const auto count = source.value()->read(piece.data(), piece.size());
    if (!count.ok()) return all;
    REQUIRE(count.value() <= capacity);
    if (count.value() == 0) break;
    all.text.append(piece, 0, count.value());
  }
  all.whole = all.text.size() < most_text && !source.value()->truncated();
  REQUIRE(source.value()->stored_bytes() <= content.size());
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const std::string_view content{reinterpret_cast<const char*>(data) + 4, size - 4};
  const size_t capacity = 1 + 37 * size_t{data[1]};
  if (data[0] % 3 == 0) {
    read_all(content, capacity);
    return 0;
  }
  const std::string packed = data[0] % 3 == 1 ? shardprof::test::gzip(content) : shardprof::test::zstd(content);
  const Text good = read_all(packed, capacity);
  REQUIRE(good.whole && good.text == content);
  std::string damaged = packed;
  damaged[(size_t{data[2]} * 256 + data[3]) % damaged.size()] ^= static_cast<char>(1 + data[0] / 3 % 8);
  const Text bad = read_all(damaged, capacity);
  // gzip's checksum is of all its text, so that what passes it is right.
  const bool is_gzip = data[0] % 3 == 1 && damaged.starts_with("\x1f\x8b");
  REQUIRE(!is_gzip || !bad.whole || bad.text == content || bad.text.empty());
  return 0;
}
