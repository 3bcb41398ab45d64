#include "shardprof/byte_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "check.h"
#include "files.h"

namespace {

using shardprof::test::gzip;
using shardprof::test::TemporaryFile;
using shardprof::test::zstd;

struct Text {
  std::string text;
  bool truncated = false;
  std::optional<shardprof::ErrorCode> error;
};

Text read_all_of(int descriptor, size_t capacity);

Text read_all(std::string_view content, size_t capacity = 1000) {
  const TemporaryFile file{content};
  const int descriptor = open(file.path().c_str(), O_RDONLY);
  Text all = read_all_of(descriptor, capacity);
  close(descriptor);
  return all;
}

Text read_all_of(int descriptor, size_t capacity) {
  auto opened = shardprof::open_byte_source(descriptor);
  if (!opened.ok()) return {.text = {}, .truncated = false, .error = opened.error().code};
  shardprof::ByteSource& source = *opened.value();
  Text all;
  std::string piece(capacity, '\0');
  while (true) {
    const auto count = source.read(piece.data(), piece.size());
    if (!count.ok()) return {.text = all.text, .truncated = source.truncated(), .error = count.error().code};
    if (count.value() == 0) break;
    all.text.append(piece, 0, count.value());
  }
  all.truncated = source.truncated();
  return all;
}

bool is_whole(const Text& read, std::string_view expected) {
  return read.text == expected && !read.truncated && !read.error;
}

// Text that does not compress to nothing, the same on every run.
std::string varied_text(size_t size) {
  std::string text;
  uint32_t state = 1;
  while (text.size() < size) {
    state = state * 1664525U + 1013904223U;
    text += static_cast<char>('a' + (state >> 24) % 26);
  }
  return text;
}

void plain_text_is_passed_on() {
  CHECK(is_whole(read_all("a trace"), "a trace"));
  CHECK(is_whole(read_all("a trace", 1), "a trace"));
  CHECK(is_whole(read_all(""), ""));
  CHECK(is_whole(read_all("\x1f"), "\x1f"));
}

void gzip_is_inflated_whatever_its_name() {
  const std::string text = varied_text(700'000);
  CHECK(is_whole(read_all(gzip(text)), text));
  CHECK(is_whole(read_all(gzip("")), ""));
}

// The last input may be taken in long before its output fits into the reader's pieces.
void output_that_waits_for_room_is_not_lost() {
  for (const size_t size : {1U, 999U, 1000U, 1001U, 5000U, 70'000U}) {
    const std::string text(size, 'a');
    for (const size_t capacity : {1U, 7U, 64U, 999U, 1000U, 1001U, 40'000U}) {
      CHECK(is_whole(read_all(gzip(text), capacity), text));
    }
  }
}

void members_follow_one_another() {
  const std::string first = varied_text(300'000);
  CHECK(is_whole(read_all(gzip(first) + gzip("second") + gzip("") + gzip("third")), first + "second" + "third"));
  for (const size_t capacity : {1U, 6U, 1000U}) {
    CHECK(is_whole(read_all(gzip("first") + gzip("second"), capacity), "firstsecond"));
  }
}

void padding_behind_the_last_member_is_no_damage() {
  CHECK(is_whole(read_all(gzip("text") + std::string(1000, '\0')), "text"));
  CHECK(is_whole(read_all(gzip("text") + std::string(1000, '\0'), 4), "text"));
}

void a_cut_off_file_gives_what_is_there() {
  const std::string text = varied_text(100'000);
  const std::string whole = gzip(text);
  for (const size_t kept : {whole.size() / 2, whole.size() - 9, whole.size() - 8, whole.size() - 1}) {
    const Text read = read_all(std::string_view{whole}.substr(0, kept));
    CHECK(read.truncated);
    CHECK(!read.error);
    CHECK(!read.text.empty() && text.starts_with(read.text));
  }
  const Text header_only = read_all(std::string_view{whole}.substr(0, 10));
  CHECK(header_only.error == shardprof::ErrorCode::damaged);
}

void a_second_member_that_is_cut_off_costs_only_itself() {
  const std::string second = gzip(varied_text(5000));
  const Text read = read_all(gzip("first") + second.substr(0, 12));
  CHECK(read.truncated);
  CHECK(read.text.starts_with("first"));
}

void damage_costs_what_comes_behind_it() {
  const std::string text = varied_text(200'000);
  std::string damaged = gzip(text);
  for (size_t i = damaged.size() / 2; i < damaged.size() / 2 + 400; ++i) damaged[i] = '\xff';
  const Text read = read_all(damaged);
  CHECK(read.truncated);
  CHECK(!read.error);
  CHECK(read.text.size() > text.size() / 4);
  CHECK(text.starts_with(std::string_view{read.text}.substr(0, text.size() / 4)));
}

void gzip_in_its_first_bytes_only_is_an_error() {
  CHECK(read_all("\x1f\x8b and then nothing of the kind").error == shardprof::ErrorCode::damaged);
  CHECK(read_all("\x1f\x8b").error == shardprof::ErrorCode::damaged);
}

void zstd_is_inflated_frame_by_frame() {
  const std::string text = varied_text(700'000);
  const std::string skippable{"\x5f\x2a\x4d\x18\x02\x00\x00\x00xx", 10};
  for (const size_t capacity : {1U, 1000U, 1U << 20}) {
    CHECK(is_whole(read_all(zstd(varied_text(3000)), capacity), varied_text(3000)));
    std::string frames = skippable;
    frames.append(zstd("first")).append(skippable).append(zstd("")).append(zstd("second"));
    CHECK(is_whole(read_all(frames, capacity), "firstsecond"));
  }
  CHECK(is_whole(read_all(zstd(text)), text));
  CHECK(is_whole(read_all(zstd("text") + std::string(1000, '\0')), "text"));
  const std::string whole = zstd(text);
  const Text cut = read_all(std::string_view{whole}.substr(0, whole.size() / 2));
  CHECK(cut.truncated && !cut.error && !cut.text.empty() && text.starts_with(cut.text));
  CHECK(read_all("\x28\xb5\x2f\xfd and then nothing of the kind").error == shardprof::ErrorCode::damaged);
}

void a_pipe_is_read_as_it_is_written() {
  const std::string packed = gzip(varied_text(30'000));
  int ends[2];
  if (!CHECK(pipe(ends) == 0)) return;
  std::thread writer{[&] {
    for (size_t at = 0; at < packed.size(); at += 7) {
      const std::string_view piece = std::string_view{packed}.substr(at, 7);
      if (write(ends[1], piece.data(), piece.size()) < 0) break;
    }
    close(ends[1]);
  }};
  CHECK(is_whole(read_all_of(ends[0], 1000), varied_text(30'000)));
  writer.join();
  close(ends[0]);
}

void what_cannot_be_read_is_an_error() { CHECK(read_all_of(-1, 10).error == shardprof::ErrorCode::cannot_read); }

}  // namespace

int main() {
  plain_text_is_passed_on();
  gzip_is_inflated_whatever_its_name();
  output_that_waits_for_room_is_not_lost();
  members_follow_one_another();
  padding_behind_the_last_member_is_no_damage();
  a_cut_off_file_gives_what_is_there();
  a_second_member_that_is_cut_off_costs_only_itself();
  damage_costs_what_comes_behind_it();
  gzip_in_its_first_bytes_only_is_an_error();
  zstd_is_inflated_frame_by_frame();
  a_pipe_is_read_as_it_is_written();
  what_cannot_be_read_is_an_error();
  return shardprof::test::exit_code();
}
