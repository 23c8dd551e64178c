#include "client_sdk/src/checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client_sdk/openai/app_request.h"
#include "client_sdk/openai/json_text.h"
#include "client_sdk/openai/utf8.h"

namespace goad::internal {
namespace {

constexpr size_t kMostPromptBytes = 3 << 20;  // what a frame holds; goad's own limit is in its greeting
constexpr size_t kMostTokenBytes = 1024;      // of one candidate's text

absl::Status Bad(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

#define GOAD_RETURN_IF_BAD(status) \
  if (absl::Status checked = (status); !checked.ok()) return checked

absl::Status CheckText(const std::string& field, const std::string& text, size_t least, size_t most) {
  if (text.size() < least || text.size() > most) {
    return Bad(field, absl::StrCat(text.size(), " bytes, want ", least, "..", most));
  }
  if (const size_t at = openai::FirstBadUtf8(text); at != std::string::npos) {
    return Bad(field, absl::StrCat("is not UTF-8 at byte ", at));
  }
  return absl::OkStatus();
}

absl::Status CheckRange(const std::string& field, double value, double least, double most) {
  if (!(value >= least && value <= most)) return Bad(field, absl::StrCat(value, " is not in ", least, "..", most));
  return absl::OkStatus();
}
absl::Status CheckDuration(const char* field, absl::Duration value, absl::Duration least, absl::Duration most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Bad(field, absl::StrCat(absl::FormatDuration(value), " is not in ", absl::FormatDuration(least), "..",
                                 absl::FormatDuration(most)));
}

// gRPC ends the process over a metadata value that HTTP cannot carry.
absl::Status CheckPrintable(const char* field, const std::string& value, size_t most) {
  if (value.size() > most) return Bad(field, absl::StrCat(value.size(), " bytes, want at most ", most));
  for (size_t k = 0; k < value.size(); ++k) {
    const auto byte = static_cast<unsigned char>(value[k]);
    if (byte > 0x20 && byte < 0x7F) continue;
    const bool newline_last = value.find_first_not_of("\r\n", k) == std::string::npos;
    return Bad(field, absl::StrCat("byte ", k, " is 0x", absl::Hex(byte, absl::kZeroPad2),
                                   ", want printable ASCII without blanks",
                                   newline_last ? " (the newline that ends a file is no part of it)" : ""));
  }
  return absl::OkStatus();
}

// Of a gRPC target (HOST[:PORT], [ADDRESS]:PORT, dns://SERVER/HOST:PORT, ipv4:ADDRESS:PORT,...) the ports, which gRPC
// itself takes modulo 65536. What follows unix: is a path, and what follows other schemes is theirs.
absl::Status CheckPorts(const std::string& field, std::string_view target) {
  for (const std::string_view scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (target.substr(0, scheme.size()) != scheme) continue;
    target.remove_prefix(scheme.size());
    target.remove_prefix(target.find_last_of('/') + 1);  // npos + 1 = 0
  }
  if (target.substr(0, 5) == "unix:" || target.find("://") != target.npos) return absl::OkStatus();
  for (const absl::string_view part : absl::StrSplit(absl::string_view(target.data(), target.size()), ',')) {
    const size_t colon = part.rfind(':'), bracket = part.rfind(']');
    if (colon == part.npos || (bracket != part.npos && colon < bracket)) continue;
    if (bracket == part.npos && part.find(':') != colon) continue;  // a bare IPv6 address
    const absl::string_view port = part.substr(colon + 1);
    int number = 0;
    const bool digits = !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), absl::ascii_isdigit);
    if (digits && absl::SimpleAtoi(port, &number) && number >= 1 && number <= 65535) continue;
    return Bad(field, absl::StrCat("port \"", port.substr(0, 16), "\" is not in 1..65535"));
  }
  return absl::OkStatus();
}

absl::Status CheckAddress(const std::string& field, const std::string& address) {
  if (address.empty()) return Bad(field, "is empty");
  GOAD_RETURN_IF_BAD(CheckPrintable(field.c_str(), address, 1024));
  return CheckPorts(field, address);
}

absl::Status CheckFirstToken(UncertaintyMetric metric, const std::vector<TokenProbability>& top) {
  if (top.size() > 100) return Bad("first_token", absl::StrCat(top.size(), " entries, want 2..100"));
  for (size_t k = 0; k < top.size(); ++k) {
    if (top[k].token.size() > kMostTokenBytes) {
      return Bad(absl::StrCat("first_token[", k, "].token"),
                 absl::StrCat(top[k].token.size(), " bytes, want at most ", kMostTokenBytes));
    }
  }
  return FirstTokenUncertainty(metric, top).status();
}

absl::Status CheckBytes(const char* field, size_t bytes, size_t most) {
  if (bytes < 1 || bytes > most) return Bad(field, absl::StrCat(bytes, " bytes, want 1..", most));
  return absl::OkStatus();
}

// What goad will parse; what is in it, is goad's to say.
absl::Status CheckJsonText(const std::string& field, const std::string& text, size_t most) {
  GOAD_RETURN_IF_BAD(CheckText(field, text, 1, most));
  const absl::Status bounded = openai::CheckJson(text, most, openai::kMostAppDepth);
  return bounded.ok() ? bounded : Bad(field, std::string(bounded.message()));
}

absl::Status CheckPrompt(const Query& query, size_t most) {
  size_t bytes = query.options_json.size();
  if (!query.options_json.empty())
    GOAD_RETURN_IF_BAD(CheckJsonText("options_json", query.options_json, openai::kMostOptionsBytes));
  if (!query.messages_json.empty()) {
    if (!query.chat.empty()) return Bad("messages_json", "stands beside chat; want one or the other");
    if (query.messages_json.size() > 256) {
      return Bad("messages_json", absl::StrCat(query.messages_json.size(), " messages, want at most 256"));
    }
    for (size_t k = 0; k < query.messages_json.size(); ++k) {
      GOAD_RETURN_IF_BAD(CheckJsonText(absl::StrCat("messages_json[", k, "]"), query.messages_json[k], most));
      bytes += query.messages_json[k].size();
    }
    return CheckBytes("messages_json", bytes, most);
  }
  if (query.chat.empty()) {
    GOAD_RETURN_IF_BAD(CheckText("prompt", query.prompt, 1, most));
    return CheckBytes("prompt and options_json", bytes + query.prompt.size(), most);
  }
  if (query.chat.size() > 256) return Bad("chat", absl::StrCat(query.chat.size(), " messages, want at most 256"));
  for (size_t k = 0; k < query.chat.size(); ++k) {
    const auto& [role, content] = query.chat[k];
    if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
      return Bad(absl::StrCat("chat[", k, "].role"), "is not system, developer, user or assistant");
    }
    GOAD_RETURN_IF_BAD(CheckText(absl::StrCat("chat[", k, "].content"), content, 0, most));
    bytes += content.size();
  }
  return CheckBytes("chat", bytes, most);
}

// Text of which goad takes no control characters either: C0, DEL, and C1 (U+0080 to U+009F).
absl::Status CheckName(const char* field, const std::string& text, size_t least, size_t most) {
  GOAD_RETURN_IF_BAD(CheckText(field, text, least, most));
  for (size_t k = 0; k < text.size(); ++k) {
    const auto byte = static_cast<unsigned char>(text[k]);
    const bool c1 = byte == 0xC2 && k + 1 < text.size() && static_cast<unsigned char>(text[k + 1]) < 0xA0;
    if (byte < 0x20 || byte == 0x7F || c1) return Bad(field, absl::StrCat("holds a control character at byte ", k + 1));
  }
  return absl::OkStatus();
}

}  // namespace

std::string Clip(std::string text, size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  text.resize(most);
  return text;
}

absl::Status CheckNamedAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  const auto is_host = [&](const std::string& host, const char* marks) {
    return !host.empty() && std::all_of(host.begin(), host.end(), [&](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || (c != 0 && std::strchr(marks, c) != nullptr);
    });
  };
  bool good = address.size() <= kMostAddressBytes && colon != address.npos && colon + 1 < address.size();
  if (good && address.front() == '[') {
    good = colon > 2 && address[colon - 1] == ']' && is_host(address.substr(1, colon - 2), ".:");
  } else if (good) {
    const std::string host = absl::AsciiStrToLower(address.substr(0, colon));
    // What gRPC or a resolver of its own takes for a scheme, whatever is behind the colon.
    const char* const schemes[] = {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds", "google-c2p"};
    good = is_host(host, ".-_") && std::find(std::begin(schemes), std::end(schemes), host) == std::end(schemes);
  }
  good = good && std::all_of(address.begin() + static_cast<ptrdiff_t>(colon) + 1, address.end(), absl::ascii_isdigit);
  if (!good) return Bad("neighbour", "is not HOST:PORT");
  return CheckPorts("neighbour", address);
}

absl::Status CheckQueryId(const std::string& id) { return CheckName("id", id, 1, 64); }

absl::Status CheckOptions(const ClientOptions& options) {
  GOAD_RETURN_IF_BAD(CheckAddress("address", options.address));
  if (options.other_addresses.size() > 15) {
    return Bad("other_addresses", absl::StrCat(options.other_addresses.size(), " entries, want at most 15"));
  }
  for (size_t k = 0; k < options.other_addresses.size(); ++k) {
    GOAD_RETURN_IF_BAD(CheckAddress(absl::StrCat("other_addresses[", k, "]"), options.other_addresses[k]));
  }
  GOAD_RETURN_IF_BAD(CheckDuration("return_after", options.return_after, absl::ZeroDuration(), absl::Hours(1)));
  GOAD_RETURN_IF_BAD(CheckPrintable("token", options.token, 4096));
  GOAD_RETURN_IF_BAD(CheckName("device_name", options.device_name, 0, 128));
  GOAD_RETURN_IF_BAD(CheckName("local_model", options.local_model, 0, 128));
  if (absl::Status checked = CheckUncertaintySource(options.uncertainty); !checked.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("uncertainty.", checked.message()));
  }
  GOAD_RETURN_IF_BAD(CheckName("uncertainty.method", options.uncertainty.method, 0, 64));
  GOAD_RETURN_IF_BAD(CheckName("uncertainty.prompt_form", options.uncertainty.prompt_form, 0, 64));
  if (options.tx_power_dbm) GOAD_RETURN_IF_BAD(CheckRange("tx_power_dbm", *options.tx_power_dbm, -60, 60));
  GOAD_RETURN_IF_BAD(CheckDuration("decision_budget", options.decision_budget, absl::ZeroDuration(), absl::Hours(1)));
  if (options.between_tokens_budget != absl::InfiniteDuration()) {
    GOAD_RETURN_IF_BAD(
        CheckDuration("between_tokens_budget", options.between_tokens_budget, absl::Milliseconds(1), absl::Hours(24)));
  }
  GOAD_RETURN_IF_BAD(CheckDuration("answer_budget", options.answer_budget, absl::ZeroDuration(), absl::Hours(24)));
  GOAD_RETURN_IF_BAD(CheckDuration("backoff_first", options.backoff_first, absl::Milliseconds(1), absl::Hours(1)));
  GOAD_RETURN_IF_BAD(CheckDuration("backoff_most", options.backoff_most, options.backoff_first, absl::Hours(1)));
  GOAD_RETURN_IF_BAD(CheckRange("asks_per_query", options.asks_per_query, 1, 100));
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return Bad(options.key_file.empty() ? "key_file" : "certificate_file", "is empty; a client certificate takes both");
  }
  if (options.root_ca_file.empty() && !options.certificate_file.empty()) {
    return Bad("root_ca_file", "is empty; certificate_file needs TLS, and TLS an authority");
  }
  return absl::OkStatus();
}

absl::Status CheckQuery(const Query& query, UncertaintyMetric metric, const std::optional<Limits>& limits) {
  GOAD_RETURN_IF_BAD(CheckQueryId(query.id));
  if (query.uncertainty) {
    GOAD_RETURN_IF_BAD(CheckRange("uncertainty", *query.uncertainty, 0, 1));
  } else if (!query.first_token.empty()) {
    GOAD_RETURN_IF_BAD(CheckFirstToken(metric, query.first_token));
  } else if (!query.must_offload) {
    return Bad("uncertainty", "is missing; want uncertainty, first_token or must_offload");
  }
  const bool said = limits && limits->prompt_bytes > 0;
  GOAD_RETURN_IF_BAD(
      CheckPrompt(query, said ? std::min<size_t>(limits->prompt_bytes, kMostPromptBytes) : kMostPromptBytes));
  const double most_output = limits && limits->max_output_tokens > 0 ? limits->max_output_tokens : 1e6;
  GOAD_RETURN_IF_BAD(CheckRange("prompt_tokens", query.prompt_tokens, 0, 1e6));
  GOAD_RETURN_IF_BAD(CheckRange("max_output_tokens", query.max_output_tokens, 0, most_output));
  if (query.expected_output_tokens) {
    GOAD_RETURN_IF_BAD(CheckRange("expected_output_tokens", *query.expected_output_tokens, 0,
                                  query.max_output_tokens > 0 ? query.max_output_tokens : most_output));
  }
  GOAD_RETURN_IF_BAD(CheckDuration("local_delay", query.local_delay, absl::ZeroDuration(), absl::Hours(1)));
  if (query.deadline != absl::InfiniteDuration()) {
    GOAD_RETURN_IF_BAD(CheckDuration("deadline", query.deadline, absl::Nanoseconds(1), absl::Hours(1)));
  }
  if (query.edge_work_flop) GOAD_RETURN_IF_BAD(CheckRange("edge_work_flop", *query.edge_work_flop, 0, 1e30));
  GOAD_RETURN_IF_BAD(CheckText("kind", query.kind, 0, 63));
  GOAD_RETURN_IF_BAD(CheckRange("temperature", query.temperature, 0, 2));
  GOAD_RETURN_IF_BAD(CheckRange("top_logprobs", query.top_logprobs, 0, 10));
  if (query.stop.size() > 4) return Bad("stop", absl::StrCat(query.stop.size(), " entries, want at most 4"));
  for (size_t k = 0; k < query.stop.size(); ++k) {
    GOAD_RETURN_IF_BAD(CheckText(absl::StrCat("stop[", k, "]"), query.stop[k], 1, 64));
  }
  return absl::OkStatus();
}

absl::Status CheckLink(const Link& link) {
  GOAD_RETURN_IF_BAD(CheckText("site", link.site, 1, 128));
  const std::string field = absl::StrCat("link to ", link.site);
  const int measurements = int{link.gain_db.has_value()} + int{link.rsrp_dbm.has_value()} +
                           int{link.uplink_snr_db.has_value()} + int{link.uplink_bps.has_value()};
  if (measurements != 1) return Bad(field, absl::StrCat(measurements, " measurements, want one"));
  if (link.gain_db) GOAD_RETURN_IF_BAD(CheckRange(field + ": gain_db", *link.gain_db, -300, 0));
  if (link.rsrp_dbm) GOAD_RETURN_IF_BAD(CheckRange(field + ": rsrp_dbm", *link.rsrp_dbm, -200, 0));
  if (link.uplink_snr_db) GOAD_RETURN_IF_BAD(CheckRange(field + ": uplink_snr_db", *link.uplink_snr_db, -100, 100));
  if (link.uplink_bps) GOAD_RETURN_IF_BAD(CheckRange(field + ": uplink_bps", *link.uplink_bps, 1, 1e12));
  return CheckDuration((field + ": age").c_str(), link.age, absl::ZeroDuration(), absl::Hours(1));
}

absl::Status CheckLocalDelay(const std::string& query_id, absl::Duration delay) {
  GOAD_RETURN_IF_BAD(CheckQueryId(query_id));
  return CheckDuration("delay", delay, absl::ZeroDuration(), absl::Hours(1));
}

absl::Status CheckQuality(const std::string& query_id, double quality) {
  GOAD_RETURN_IF_BAD(CheckQueryId(query_id));
  return CheckRange("quality", quality, 0, 1);
}

}  // namespace goad::internal
