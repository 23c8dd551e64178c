// What goes back and forth in a chat, as the wire has it: plain values.
#ifndef GOAD_CLIENT_SDK_OPENAI_MESSAGE_H_
#define GOAD_CLIENT_SDK_OPENAI_MESSAGE_H_

#include <string>

namespace goad::openai {

struct Message {
  std::string role, content;
  std::string json;     // the whole message, `content` being its text; empty = role and content are all
  bool images = false;  // `json` has some
  bool tools = false;   // it calls tools, or says what became of a call
};

inline constexpr int kMostToolCalls = 128;  // of an answer; a piece of a later one is not read

// What is not empty is appended to the call of that index.
struct ToolCallPiece {
  int index = 0;
  std::string id, name, arguments;
};

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_MESSAGE_H_
