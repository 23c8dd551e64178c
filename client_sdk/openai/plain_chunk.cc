#include "client_sdk/openai/plain_chunk.h"

#include <string_view>
#include <utility>

#include "simdjson.h"

namespace goad::openai {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

constexpr size_t kMostDepth = 16;  // a plain one has 4

// Of equal names in an object the last one counts for nlohmann; here it is no plain chunk.
class Seen {
 public:
  bool IsFirst(int field) { return (std::exchange(bits_, bits_ | 1u << field) >> field & 1u) == 0; }

 private:
  unsigned bits_ = 0;
};

// False where it is neither text nor null. What is read elsewhere (chunk.cc) and not here has to be null.
bool TakeText(const element& value, std::string* text) {
  std::string_view bytes;
  if (value.is_null()) return true;
  if (value.get(bytes) != simdjson::SUCCESS) return false;
  text->assign(bytes);
  return true;
}

bool ReadMessage(const object& message, Chunk* chunk) {
  Seen seen;
  for (const auto [name, value] : message) {
    if (name == "content") {
      if (!seen.IsFirst(0) || !TakeText(value, &chunk->text)) return false;
    } else if (name == "reasoning_content" || name == "reasoning" || name == "thinking") {
      std::string thought;
      if (!seen.IsFirst(name == "reasoning_content" ? 1 : name == "reasoning" ? 2 : 3)) return false;
      if (!TakeText(value, &thought)) return false;
      chunk->thought |= !thought.empty();
      if (thought.empty()) continue;
      if (!chunk->reasoning.empty()) return false;  // under two names
      chunk->reasoning = std::move(thought);
    } else if (name == "refusal" || name == "reasoning_details" || name == "thinking_blocks" || name == "tool_calls" ||
               name == "function_call") {
      if (!value.is_null()) return false;
    }
  }
  return true;
}

bool ReadChoice(const object& choice, Chunk* chunk) {
  Seen seen;
  bool has_message = false;
  std::string text, finish_reason;
  for (const auto [name, value] : choice) {
    if (name == "text") {
      if (!seen.IsFirst(0) || !TakeText(value, &text)) return false;
    } else if (name == "delta" || name == "message") {
      object message;
      if (!seen.IsFirst(name == "delta" ? 1 : 2)) return false;
      if (value.is_null()) continue;
      if (std::exchange(has_message, true) || value.get(message) != simdjson::SUCCESS) return false;
      if (!ReadMessage(message, chunk)) return false;
    } else if (name == "finish_reason") {
      if (!seen.IsFirst(3) || !TakeText(value, &finish_reason)) return false;
    } else if (name == "index") {
      uint64_t index = 0;
      if (!value.is_null() && (value.get(index) != simdjson::SUCCESS || index != 0)) return false;
    } else if (name == "logprobs") {
      if (!value.is_null()) return false;
    }
  }
  if (chunk->text.empty()) chunk->text = std::move(text);
  if (!finish_reason.empty()) chunk->finish_reason = CleanFinishReason(finish_reason);
  return true;
}

}  // namespace

std::optional<Chunk> ReadPlainChunk(const std::string& data) {
  simdjson::dom::parser parser;
  object event;
  if (parser.allocate(data.size(), kMostDepth) != simdjson::SUCCESS) return std::nullopt;
  if (parser.parse(data).get(event) != simdjson::SUCCESS) return std::nullopt;
  Chunk chunk;
  for (const auto [name, value] : event) {
    if (name == "choices") {
      simdjson::dom::array choices;
      object choice;
      if (chunk.has_choice || value.get(choices) != simdjson::SUCCESS || choices.size() != 1) return std::nullopt;
      if (choices.at(0).get(choice) != simdjson::SUCCESS || !ReadChoice(choice, &chunk)) return std::nullopt;
      chunk.has_choice = true;
    } else if (name == "object") {
      std::string_view what;
      if (value.get(what) != simdjson::SUCCESS || what == "error") return std::nullopt;
    } else if (name == "usage" || name == "error" || name == "detail") {
      if (!value.is_null()) return std::nullopt;
    }
  }
  if (!chunk.has_choice) return std::nullopt;
  chunk.tokens = chunk.text.empty() ? 0 : 1;
  return chunk;
}

}  // namespace goad::openai
