#include "client_sdk/openai/logprobs.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/logprobs_document.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

using nlohmann::json;

constexpr char kReplacement[] = "\xEF\xBF\xBD";

const json& GetFirst(const json& object, std::initializer_list<const char*> fields) {
  for (const char* field : fields) {
    if (const json& found = Get(object, field); !found.is_null()) return found;
  }
  return Null();
}
bool HasText(const json& object, std::initializer_list<const char*> fields) {
  return std::any_of(fields.begin(), fields.end(),
                     [&](const char* field) { return !Text(Get(object, field)).empty(); });
}

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}
// At most that many bytes, and whole characters.
std::string Clipped(const std::string& text, size_t most = 40) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return text.substr(0, most) + "...";
}

// A log-probability (or, with `is_probability`, a probability) as a log-probability within kLogprobOfZero..0.
absl::StatusOr<double> ReadNumber(const json& value, bool is_probability, const std::string& path) {
  if (value.is_null()) return kLogprobOfZero;
  double number = 0;
  if (value.is_number()) {
    number = value.get<double>();
  } else if (value.is_string()) {  // "-Infinity", "-9999"
    const std::string text = value.get<std::string>();
    char* end = nullptr;
    number = std::strtod(text.c_str(), &end);
    if (text.empty() || end != text.c_str() + text.size())
      return Bad(path, absl::StrCat("\"", Clipped(text), "\" is no number"));
  } else {
    return Bad(path, absl::StrCat("is ", value.type_name(), ", want a number"));
  }
  if (std::isnan(number)) return Bad(path, "is not a number");
  if (is_probability) {
    if (number < 0 || number > 1 + kRounding) return Bad(path, absl::StrCat(number, " is not in 0..1"));
    number = number > 0 ? std::log(number) : kLogprobOfZero;
  } else if (number > kRounding) {
    return Bad(path, absl::StrCat(number, " is above 0, want a natural logarithm of a probability"));
  }
  return std::clamp(number, kLogprobOfZero, 0.0);
}

std::optional<int64_t> ReadId(const json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0) return std::nullopt;
  return value.get<int64_t>();
}

// `bytes` as they are; nullopt where absent or not bytes.
std::optional<std::string> ReadBytes(const json& value) {
  if (!value.is_array() || value.empty()) return std::nullopt;
  std::string bytes;
  for (const json& byte : value) {
    if (!byte.is_number_integer() || byte.get<int64_t>() < 0 || byte.get<int64_t>() > 255) return std::nullopt;
    bytes += static_cast<char>(byte.get<int64_t>());
  }
  return bytes;
}

// llama.cpp before 2025 writes a lone byte as "byte: \xe4".
std::string UnwrapByte(const std::string& text) {
  if (text.size() == 10 && text.compare(0, 8, "byte: \\x") == 0) {
    char* end = nullptr;
    const long byte = std::strtol(text.c_str() + 8, &end, 16);
    if (*end == '\0' && byte >= 0x80) return std::string(1, static_cast<char>(byte));
  }
  return text;
}

void NameToken(const json& text, const json& bytes, TokenLogprob* token) {
  token->token = UnwrapByte(Text(text));
  // vLLM's bytes are those of the text, U+FFFD included; elsewhere they are the token's own.
  if (const auto own = ReadBytes(bytes)) token->token = *own;
  if (!token->token.empty() || !token->id) return;
  token->token = absl::StrCat("token_id:", *token->id);
  token->special = text.is_string();  // llama.cpp prints its control tokens as nothing
}

// Null where it is not said which token it is.
const json& Name(const json& entry) {
  return entry.is_string() ? entry : GetFirst(entry, {"token", "text", "tok_str", "content", "tok"});
}

// One token without its candidates: an object, SGLang's [logprob, id, text], or a bare text.
absl::StatusOr<TokenLogprob> ReadToken(const json& entry, const std::string& path) {
  TokenLogprob token;
  absl::StatusOr<double> logprob = kLogprobOfZero;
  const json* number = &Null();
  if (entry.is_array()) {
    if (entry.size() < 2) return Bad(path, absl::StrCat(entry.size(), " values, want logprob, id and text"));
    token.id = ReadId(entry[1]);
    NameToken(Get(entry, 2), json(), &token);
    number = &entry[0];
    logprob = ReadNumber(*number, false, absl::StrCat(path, "[0]"));
  } else if (entry.is_object()) {
    token.id = ReadId(GetFirst(entry, {"id", "token_id"}));
    NameToken(Name(entry), Get(entry, "bytes"), &token);
    token.special = Get(entry, "special") == true;
    const bool is_probability = entry.contains("prob");
    const char* field = is_probability ? "prob" : "logprob";
    number = &Get(entry, field);
    logprob = ReadNumber(*number, is_probability, absl::StrCat(path, ".", field));
  } else if (entry.is_string()) {
    token.token = entry.get<std::string>();
  } else {
    return Bad(path, absl::StrCat("is ", entry.type_name(), ", want an object"));
  }
  if (!logprob.ok()) return logprob.status();
  token.logprob = *logprob;
  token.has_logprob = !number->is_null();
  return token;
}

// The best kMostTop, in the order given.
void Cut(std::vector<TokenLogprob>* top) {
  if (top->size() <= kMostTop) return;
  std::vector<size_t> order(top->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return (*top)[a].logprob > (*top)[b].logprob; });
  order.resize(kMostTop);
  std::sort(order.begin(), order.end());
  std::vector<TokenLogprob> best;
  for (const size_t k : order) best.push_back(std::move((*top)[k]));
  *top = std::move(best);
}

// A position's candidates: a list of tokens, or the older object {text: logprob}.
absl::StatusOr<std::vector<TokenLogprob>> ReadTop(const json& list, const std::string& path) {
  std::vector<TokenLogprob> top;
  if (list.is_object()) {
    for (const auto& [text, value] : list.items()) {
      // An object has one entry for one text: broken tokens that print alike have overwritten each other.
      if (text.find(kReplacement) != std::string::npos) {
        return Bad(
            path,
            "names candidates by a text that is part of a character (U+FFFD), so that some may be lost; ask for chat's "
            "log-probabilities, which have a list");
      }
      const auto logprob = ReadNumber(value, false, absl::StrCat(path, "[\"", Clipped(text), "\"]"));
      if (!logprob.ok()) return logprob.status();
      TokenLogprob token;
      token.token = text;
      token.logprob = *logprob;
      token.has_logprob = !value.is_null();
      top.push_back(std::move(token));
    }
  } else if (list.is_array()) {
    std::set<int64_t> ids;
    for (size_t k = 0; k < list.size(); ++k) {
      auto token = ReadToken(list[k], absl::StrCat(path, "[", k, "]"));
      if (!token.ok()) return token.status();
      if (token->id && !ids.insert(*token->id).second) continue;  // some servers add the chosen one to the best ones
      top.push_back(*std::move(token));
    }
  } else if (!list.is_null()) {
    return Bad(path, absl::StrCat("is ", list.type_name(), ", want a list"));
  }
  Cut(&top);
  return top;
}

class Reader {
 public:
  explicit Reader(Logprobs* out) : out_(out) {}
  const absl::Status& status() const { return status_; }

  // A position from its token, its candidates, and the token's log-probability where it stands apart (null = in the
  // token).
  void Add(const json& chosen, const json& top, const json& logprob, const std::string& path,
           const std::string& top_path) {
    if (!status_.ok()) return;
    absl::StatusOr<TokenLogprob> token = TokenLogprob();
    if (!chosen.is_null()) token = ReadToken(chosen, path);
    if (token.ok() && !logprob.is_null()) {
      const auto apart = ReadNumber(logprob, false, absl::StrCat(path, ".logprob"));
      if (!apart.ok()) return Fail(apart.status());
      token->logprob = *apart;
      token->has_logprob = true;
    }
    if (!token.ok()) return Fail(token.status());
    auto candidates = ReadTop(top, top_path);
    if (!candidates.ok()) return Fail(candidates.status());
    token->top = *std::move(candidates);
    if (token->token.empty() && Name(chosen).is_null() && !token->top.empty()) {  // not said: most likely the best
      const auto best = std::max_element(token->top.begin(), token->top.end(),
                                         [](const auto& a, const auto& b) { return a.logprob < b.logprob; });
      token->token = best->token;
      token->id = best->id;
    }
    for (size_t k = 0; !token->has_logprob && k < token->top.size();
         ++k) {  // llama.cpp before 2025 says it there alone
      if (token->top[k].token != token->token) continue;
      token->logprob = token->top[k].logprob;
      token->has_logprob = token->top[k].has_logprob;
    }
    out_->tokens.push_back(*std::move(token));
  }
  // Positions that hold their candidates.
  void AddList(const json& list, const std::string& path) {
    for (size_t k = 0; list.is_array() && k < list.size(); ++k) {
      const std::string at = absl::StrCat(path, "[", k, "]");
      const char* field = "top_logprobs";
      for (const char* other : {"top_probs", "probs"}) {
        if (Get(list[k], field).is_null() && !Get(list[k], other).is_null()) field = other;
      }
      Add(list[k], Get(list[k], field), json(), at, absl::StrCat(at, ".", field));
    }
  }
  // Tokens in one list and their candidates in another, position by position; null where there are none.
  void AddLists(const json& tokens, const json& logprobs, const json& tops, const std::string& path,
                const char* tops_name) {
    const size_t count = std::max(tokens.is_array() ? tokens.size() : 0, tops.is_array() ? tops.size() : 0);
    for (size_t k = 0; k < count; ++k) {
      Add(Get(tokens, k), Get(tops, k), Get(logprobs, k), absl::StrCat(path, ".tokens[", k, "]"),
          absl::StrCat(path, ".", tops_name, "[", k, "]"));
    }
  }
  bool done() const { return !status_.ok() || !out_->tokens.empty(); }

 private:
  void Fail(absl::Status status) { status_ = std::move(status); }

  Logprobs* const out_;
  absl::Status status_;
};

// choices[] with index 0, or the first when they have none.
const json& FirstChoice(const json& root) {
  const json& choices = Get(root, "choices");
  for (size_t k = 0; choices.is_array() && k < choices.size(); ++k) {
    const json& index = Get(choices[k], "index");
    if (!index.is_number() || index == 0) return choices[k];
  }
  return Null();
}

void ReadTexts(const json& root, const json& choice, Logprobs* out) {
  // Chat's, completions', Ollama's chat, and those that answer without choices.
  for (const json* at : {&GetFirst(choice, {"delta", "message"}), &choice, &Get(root, "message"), &root}) {
    if (!at->is_object()) continue;
    if (HasText(*at, {"reasoning_content", "reasoning", "thinking"})) out->has_thought = true;
    for (const char* call : {"tool_calls", "function_call"}) {
      const json& calls = Get(*at, call);
      out->has_tool_call = out->has_tool_call || (calls.is_structured() && !calls.empty());
    }
    if (out->answer.empty()) out->answer = Text(GetFirst(*at, {"content", "response", "text", "generated_text"}));
  }
}

void ReadTokens(const json& root, const json& choice, Reader* read, Logprobs* out) {
  read->AddList(Get(root, "completion_probabilities"), "completion_probabilities");
  if (read->done()) return;
  const json& logprobs = Get(choice, "logprobs");
  if (Get(logprobs, "content").is_array()) {
    read->AddList(Get(logprobs, "content"), "logprobs.content");
    out->thought_apart = Get(logprobs, "reasoning_content").is_array();
  } else {
    read->AddLists(Get(logprobs, "tokens"), Get(logprobs, "token_logprobs"), Get(logprobs, "top_logprobs"), "logprobs",
                   "top_logprobs");
  }
  if (read->done()) return;
  if (const json& meta = Get(root, "meta_info"); meta.is_object()) {
    const json& tokens = Get(meta, "output_token_logprobs");
    read->AddLists(tokens, json(), Get(meta, "output_top_logprobs"), "meta_info", "output_top_logprobs");
    out->from_the_start = tokens.is_array() && !tokens.empty() && Get(meta, "completion_tokens") == tokens.size();
  }
  if (read->done()) return;
  if (const json& token = Get(root, "token"); token.is_object()) {
    read->Add(token, Get(root, "top_tokens"), json(), "token", "top_tokens");
  }
  if (read->done()) return;
  const json& details = Get(root, "details");
  read->AddLists(Get(details, "tokens"), json(), Get(details, "top_tokens"), "details", "top_tokens");
  if (read->done()) return;
  read->AddList(Get(root, "logprobs"), "logprobs");
}

}  // namespace

absl::StatusOr<Logprobs> ReadLogprobs(std::string_view text) {
  if (absl::Status checked = CheckJson(text, kMostLogprobsBytes); !checked.ok()) return checked;
  return LogprobsOf(json::parse(StrictJson(text), nullptr, /*allow_exceptions=*/false));
}

absl::StatusOr<Logprobs> LogprobsOf(const json& document) {
  // TGI's "/" and SGLang's batches wrap the answer into a list.
  const json& root = document.is_array() && !document.empty() ? document[0] : document;
  if (document.is_discarded() || !root.is_object()) return absl::InvalidArgumentError("not a JSON object");
  if (const json& error = Get(root, "error"); error.is_object() || error.is_string()) {
    const std::string words = error.is_string() ? Text(error) : Text(Get(error, "message"));
    return absl::UnavailableError(absl::StrCat("the server says: ", Clipped(words, 200)));
  }
  Logprobs out;
  Reader read(&out);
  const json& choice = FirstChoice(root);
  ReadTexts(root, choice, &out);
  ReadTokens(root, choice, &read, &out);
  if (!read.status().ok()) return read.status();
  return out;
}

}  // namespace goad::openai
