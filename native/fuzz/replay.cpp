// Runs a fuzz target over the files of a folder, whole and cut off everywhere: a test with any compiler.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t most_cuts = 500;

std::vector<uint8_t> content(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{stream}, std::istreambuf_iterator<char>{}};
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator{argc > 1 ? argv[1] : "."}) {
    if (!entry.is_regular_file()) continue;
    const std::vector<uint8_t> data = content(entry.path());
    LLVMFuzzerTestOneInput(data.data(), data.size());
    for (size_t cut = 0; cut < data.size(); cut += 1 + data.size() / most_cuts) {
      const std::vector<uint8_t> prefix{data.begin(),
                                        data.begin() + static_cast<std::ptrdiff_t>(cut)};  // ends where it ends
      LLVMFuzzerTestOneInput(prefix.data(), prefix.size());
    }
    ++files;
  }
  std::printf("%zu files\n", files);
  return files == 0 ? 1 : 0;
}
