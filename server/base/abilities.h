// What an LLM server can, as operators and devices are told of it.
#ifndef GOAD_SERVER_BASE_ABILITIES_H_
#define GOAD_SERVER_BASE_ABILITIES_H_

namespace goad::server {

// Who says so.
enum class AbilityFrom { kAssumed, kServer, kConfigured };
inline const char* ToString(AbilityFrom from) {
  switch (from) {
    case AbilityFrom::kAssumed: return "assumed";
    case AbilityFrom::kServer: return "server";
    case AbilityFrom::kConfigured: return "configured";
  }
  return "?";
}
struct Abilities {
  bool chat = false, tools = false, images = false;
  int context_tokens = 0;  // prompt and answer together; 0 = nobody says
  AbilityFrom tools_from = AbilityFrom::kAssumed, images_from = AbilityFrom::kAssumed;
  AbilityFrom context_from = AbilityFrom::kAssumed;

  bool operator==(const Abilities& o) const {
    return chat == o.chat && tools == o.tools && images == o.images && context_tokens == o.context_tokens &&
           tools_from == o.tools_from && images_from == o.images_from && context_from == o.context_from;
  }
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_ABILITIES_H_
