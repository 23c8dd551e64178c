#include "server/dispatch/server_error.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <unordered_set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"
#include "nlohmann/json.hpp"
#include "server/base/clip.h"
#include "server/dispatch/blame_words.h"

namespace goad::server {
namespace {

using nlohmann::json;
using openai::Text;

constexpr size_t kMaxWords = 300;
constexpr size_t kMaxField = 64;
constexpr size_t kMaxErrorJson = 64 << 10;

// Where `words` (blame_words.h) stand in `text` from `from` on; nothing = nowhere.
std::string_view Find(std::string_view text, std::string_view words, size_t from = 0) {
  constexpr size_t kMaxWord = 200;  // for a `*`
  const size_t fixed = std::min(words.find_first_of("#*"), words.size());
  for (size_t at = from; (at = text.find(words.substr(0, fixed), at)) != text.npos; ++at) {
    size_t end = at + fixed;
    bool is = true;
    for (size_t k = fixed; is && k < words.size(); ++k) {
      const size_t begin = end;
      if (words[k] == '#') {
        while (end < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[end]))) ++end;
      } else if (words[k] == '*') {
        while (end < text.size() && end - begin < kMaxWord && text[end] != ' ') ++end;
      } else if (end < text.size() && text[end] == words[k]) {
        ++end;
      }
      is = end > begin;
    }
    if (is) return text.substr(at, end - at);
  }
  return {};
}

template <size_t n>
bool SaysAnyOf(std::string_view text, const std::string_view (&words)[n]) {
  return std::any_of(words, words + n, [&](std::string_view word) { return !Find(text, word).empty(); });
}

// Letters and digits alone, in lower case: however a server writes a prompt that it repeats, these are the same.
std::string Letters(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) out += absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return out;
}

std::string PromptLetters(const PromptBody& prompt) {
  std::string letters;
  prompt.ForEachText([&](std::string_view text) { letters += Letters(text); });
  return letters;
}

// A server's message beside the prompt that it answers.
class Message {
 public:
  enum class Says { kNo, kPerhaps, kYes };  // kPerhaps: in words that may be the prompt's

  Message(std::string_view text, const PromptBody& prompt)
      : text_(absl::AsciiStrToLower(std::string(text))), prompt_(prompt) {}

  template <size_t n>
  Says AnyOf(const std::string_view (&words)[n]) {
    Says says = Says::kNo;
    for (const std::string_view word : words) {
      for (std::string_view found = Find(text_, word); !found.empty();) {
        if (!PromptHolds(found)) return Says::kYes;
        says = Says::kPerhaps;
        found = Find(text_, word, static_cast<size_t>(found.data() - text_.data()) + 1);
      }
    }
    return says;
  }

 private:
  bool PromptHolds(std::string_view words) {
    if (!asked_) asked_ = PromptLetters(prompt_);
    return asked_->find(Letters(words)) != std::string::npos;
  }

  const std::string text_;
  const PromptBody& prompt_;
  std::optional<std::string> asked_;  // the prompt's letters, made when first needed
};

// A status, as a number or a text ("400"); 0 = none.
int StatusOf(const json& object, const char* field) {
  const auto at = object.find(field);
  if (at == object.end()) return 0;
  double status = 0;
  if (at->is_number()) status = at->get<double>();
  if (at->is_string() && !absl::SimpleAtod(at->get_ref<const std::string&>(), &status)) status = 0;
  return status >= 400 && status <= 599 ? static_cast<int>(status) : 0;
}

// Where a server gives no number: by the type's name. In lower case.
int StatusOfType(std::string_view type) {
  const auto has = [&](std::string_view word) { return type.find(word) != type.npos; };
  if (has("authentication") || has("permission") || has("unauthorized")) return 401;
  if (has("not_found") || has("notfound")) return 404;
  if (has("rate_limit") || has("ratelimit") || has("overloaded") || has("too_many") || has("quota")) return 429;
  if (has("invalid_request") || has("badrequest") || has("bad_request") || has("validation") || has("context") ||
      has("unprocessable") || has("template") || has("empty_input")) {
    return 400;
  }
  return 0;
}

struct Parts {
  enum class Form { kJson, kHtml, kText, kNothing };
  std::string message, kind, field;  // kind: type and code, in lower case
  std::string page;                  // all of it, where the message is only its title
  int status = 0;
  Form form = Form::kJson;
};

void ReadDetail(const json& detail, Parts* parts) {  // FastAPI
  if (detail.is_string()) parts->message = detail.get<std::string>();
  if (detail.is_object()) parts->message = Text(detail, "message");
  if (!detail.is_array()) return;
  for (const json& item : detail) {
    if (!item.is_object() || parts->message.size() > kMaxWords) break;
    std::string where;
    if (const auto loc = item.find("loc"); loc != item.end() && loc->is_array()) {
      for (const json& step : *loc) {
        if (!step.is_string()) continue;
        parts->field = step.get<std::string>();
        absl::StrAppend(&where, where.empty() ? "" : ".", parts->field);
      }
    }
    absl::StrAppend(&parts->message, parts->message.empty() ? "" : "; ", where, where.empty() ? "" : ": ",
                    Text(item, "msg"));
  }
}

Parts ReadParts(std::string_view body) {
  Parts parts;
  json root = json(json::value_t::discarded);
  if (openai::CheckJson(body, kMaxErrorJson).ok()) root = json::parse(openai::StrictJson(body), nullptr, false);
  if (root.is_array() && !root.empty() && root[0].is_object()) {
    json first = std::move(root[0]);
    root = std::move(first);
  }
  if (!root.is_object()) {
    const size_t begin = body.find("<title>"), end = body.find("</title>");
    parts.message =
        begin != body.npos && end != body.npos && begin < end ? body.substr(begin + 7, end - begin - 7) : body;
    parts.page = body;
    const size_t first = body.find_first_not_of(" \t\r\n");
    if (first == body.npos) parts.form = Parts::Form::kNothing;
    // What begins as JSON was cut.
    else if (body[first] != '{' && body[first] != '[')
      parts.form = body[first] == '<' ? Parts::Form::kHtml : Parts::Form::kText;
    return parts;
  }
  const auto error = root.find("error");
  const json& at = error != root.end() && error->is_object() ? *error : root;
  parts.message = error != root.end() && error->is_string() ? error->get<std::string>() : Text(at, "message");
  if (const auto detail = root.find("detail"); detail != root.end() && parts.message.empty())
    ReadDetail(*detail, &parts);
  if (parts.message.empty()) parts.message = body;
  if (parts.field.empty()) parts.field = Text(at, "param");
  parts.kind =
      absl::AsciiStrToLower(absl::StrCat(Text(at, "type"), " ", Text(at, "code"), " ", Text(root, "error_type")));
  parts.status = StatusOf(at, "code");
  if (parts.status == 0) parts.status = StatusOf(at, "status");
  if (parts.status == 0) parts.status = StatusOf(root, "status_code");
  if (parts.status == 0) parts.status = StatusOfType(parts.kind);
  return parts;
}

struct Verdict {
  Blame blame = Blame::kBackend;
  bool doubtful = false;
};

// README.md has it as a table.
Verdict VerdictOf(int status, bool says_when_to_retry, const Parts& parts, const PromptBody& prompt) {
  using Says = Message::Says;
  using Form = Parts::Form;
  Message message(parts.message, prompt), page(parts.page, prompt);
  const auto either = [](Says one, Says other) { return std::max(one, other); };
  switch (status) {
    case 401:
    case 404:
    case 405: return {Blame::kConfiguration};
    case 408: return {Blame::kBackend};
    case 429: return {Blame::kBusy};
    default: break;
  }
  if ((status == 403 || status == 406) && parts.form == Form::kHtml) return {Blame::kConfiguration, true};  // a filter
  const bool of_request = status == 400 || status == 413 || status == 422;
  if ((of_request || status >= 500) && SaysAnyOf(parts.kind, kPromptKinds)) return {Blame::kPrompt};
  if (of_request) {
    if (SaysAnyOf(parts.kind, kConfigurationKinds) || parts.field == "model") return {Blame::kConfiguration};
    if (message.AnyOf(kConfigurationWords) == Says::kYes || message.AnyOf(kConfigurationKinds) == Says::kYes ||
        page.AnyOf(kConfigurationWords) == Says::kYes) {
      return {Blame::kConfiguration};
    }
  }
  // 424 is TGI's for what went wrong behind it.
  const bool of_server = status >= 500 || status == 424;
  Says prompts = either(message.AnyOf(kTemplateWords), message.AnyOf(kModerationWords));
  if (of_server || of_request) prompts = either(prompts, message.AnyOf(kLengthWords));
  if (prompts == Says::kYes && status >= 400) return {Blame::kPrompt};
  if (of_request) {  // LLM servers speak JSON: other words, or none, are a gateway's
    return status == 400 && parts.form != Form::kJson ? Verdict{Blame::kConfiguration, true} : Verdict{Blame::kPrompt};
  }
  if (!of_server) {
    return {Blame::kConfiguration, prompts == Says::kPerhaps && status >= 400};
  }
  if (status != 503 && status != 529) return {Blame::kBackend, prompts == Says::kPerhaps};
  const Says loads = message.AnyOf(kLoadingWords), busy = message.AnyOf(kBusyWords);
  if (loads == Says::kYes) return {Blame::kLoading};
  if (status == 529 || says_when_to_retry || busy == Says::kYes) return {Blame::kBusy};
  return {Blame::kBackend, either(prompts, either(loads, busy)) == Says::kPerhaps};
}

std::string_view Trimmed(std::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  return {trimmed.data(), trimmed.size()};
}

}  // namespace

std::string WithoutAddresses(std::string_view text, std::string_view url) {
  constexpr std::string_view kInstead = "(address)";
  std::string_view host = url;
  if (const size_t scheme = host.find("://"); scheme != host.npos) host.remove_prefix(scheme + 3);
  if (const size_t user = host.find('@'); user != host.npos) host.remove_prefix(user + 1);
  host = host.substr(0, host.find_first_of(":/"));
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
  };
  const auto ends_word = [](char c) { return std::string_view(" \t\"'<>(),;").find(c) != std::string_view::npos; };
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;  // of a run of letters, digits, dots and dashes
    while (end < text.size() && is_word(text[end])) ++end;
    if (end == i && text.substr(i, 3) != "://") {
      out += text[i++];
      continue;
    }
    const std::string_view word = text.substr(i, end - i);
    size_t stop = end;
    bool is_address = text.substr(end, 3) == "://" || (!host.empty() && word == host);
    int dots = 0, digits = 0;
    for (const char c : word) {
      dots += c == '.';
      digits += std::isdigit(static_cast<unsigned char>(c)) != 0;
    }
    const int trailing = !word.empty() && word.back() == '.' ? 1 : 0;  // the end of a sentence
    is_address |= dots - trailing == 3 && dots + digits == static_cast<int>(word.size()) && digits >= 4;
    if (is_address) {
      while (stop < text.size() && !ends_word(text[stop])) ++stop;
      out += kInstead;
    } else {
      out += word;
    }
    i = stop;
  }
  return out;
}

std::string WithoutPrompt(std::string_view words, const PromptBody& prompt) {
  constexpr size_t kRun = 8;
  std::unordered_set<std::string_view> runs, repeated;
  for (size_t k = 0; k + kRun <= words.size(); ++k) runs.insert(words.substr(k, kRun));
  const auto look = [&](std::string_view text) {
    for (size_t k = 0; k + kRun <= text.size(); ++k) {
      if (const auto run = runs.find(text.substr(k, kRun)); run != runs.end()) repeated.insert(*run);
    }
  };
  prompt.ForEachText(look);
  std::string out;
  size_t end = 0;  // of what is the prompt's
  for (size_t k = 0; k < words.size(); ++k) {
    if (repeated.count(words.substr(k, kRun)) > 0) {
      if (end < k || k == 0) out += "(prompt)";
      end = k + kRun;
    }
    if (k >= end) out += words[k];
  }
  return Printable(out);  // half a character may be left over
}

bool SaysLoading(std::string_view words) { return SaysAnyOf(absl::AsciiStrToLower(std::string(words)), kLoadingWords); }

bool Repeats(const PromptBody& prompt, std::string_view words) {
  return PromptLetters(prompt).find(Letters(words)) != std::string::npos;
}

ServerError ReadServerError(int http_status, bool says_when_to_retry, std::string_view body, const PromptBody& prompt,
                            bool is_whole) {
  Parts parts = ReadParts(body);
  if (parts.form == Parts::Form::kNothing && !is_whole) parts.form = Parts::Form::kJson;  // it might have been
  // A status of the answer counts before what the body says, but for a 5xx around somebody else's 4xx.
  const bool from_body = http_status < 300 || (http_status >= 500 && parts.status >= 400 && parts.status < 500);
  const int status = !from_body ? http_status : parts.status != 0 ? parts.status : 500;
  ServerError error;
  const Verdict verdict = VerdictOf(status, says_when_to_retry, parts, prompt);
  error.blame = verdict.blame;
  error.doubtful = verdict.doubtful;
  // Tools, schemas and images that a server cannot do are refused as 404 and 500, too, in words of all kinds: such a
  // query may be tried elsewhere, and opens no circuit. A key that is wrong is wrong for all.
  const bool refused = error.blame == Blame::kBackend || error.blame == Blame::kConfiguration;
  if (refused && !prompt.is_plain() && status != 401 && status != 403) error.doubtful = true;
  const std::string words = Clip(Trimmed(parts.message), kMaxWords - 13);
  error.words = absl::StrCat("HTTP ", http_status, words.empty() ? "" : ": ", words);
  error.code = http_status >= 300 && http_status <= 599 ? absl::StrCat(http_status)
               : http_status == 200                     ? "error"
                                                        : "other";
  error.field = Clip(Trimmed(parts.field), kMaxField - 3);
  return error;
}

}  // namespace goad::server
