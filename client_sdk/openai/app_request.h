// What an app puts into an OpenAI request, as JSON: what of it may go on to a server. Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_APP_REQUEST_H_
#define GOAD_CLIENT_SDK_OPENAI_APP_REQUEST_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "client_sdk/openai/message.h"

namespace goad::openai {

inline constexpr size_t kMostOptionsBytes = 64 << 10;
inline constexpr int kMostAppDepth = 16;  // arrays and objects within each other, of options and of a message

// Errors are INVALID_ARGUMENT, "PATH: what is wrong", the path beginning within the object; texts are clipped.

// A message of the chat API: role in system, developer, user, assistant, tool; content a text, null, or 1..64 parts of
// text or image_url; name, tool_call_id, tool_calls, refusal, reasoning_content. An image's URL begins with "data:",
// for a server would fetch another one from where only it can reach; `remote_images` allows that. `json` of the result
// is the same message, written anew; `content` its texts one after the other; `images` and `tools` what is in it.
absl::StatusOr<Message> ReadAppMessage(std::string_view json, size_t most_bytes, bool remote_images);

struct Options {
  std::string json;    // as given, written anew; "" = an empty object
  bool tools = false;  // there are some, so that an answer may be a call of one
};
// The rest of a request: an object whose fields are all among `allowed`.
absl::StatusOr<Options> ReadAppOptions(std::string_view json, const std::vector<std::string>& allowed);

// What messages and options as above need of the server that answers them. Those that are none need nothing: whoever
// reads them says what is wrong.
struct AppNeeds {
  bool tools = false;   // some are offered, or were called
  bool images = false;  // there are some
};
AppNeeds NeedsOf(const std::vector<std::string>& messages_json, const std::string& options_json);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_APP_REQUEST_H_
