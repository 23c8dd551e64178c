#include "server/dispatch/abilities.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

void Decide(bool chat_api, const std::optional<bool>& configured, const std::optional<bool>& said, bool assumed,
            bool* can, AbilityFrom* from) {
  *can = chat_api && configured.value_or(said.value_or(assumed));
  *from = !chat_api || configured ? AbilityFrom::kConfigured : said ? AbilityFrom::kServer : AbilityFrom::kAssumed;
}

}  // namespace

Abilities AbilitiesOf(const BackendConfig& config, const SaidAbilities& said) {
  const bool chat_api = config.api == BackendApi::kChat;
  Abilities can;
  can.chat = config.takes_chat();
  Decide(chat_api, config.tools, said.tools, true, &can.tools, &can.tools_from);
  Decide(chat_api, config.images, said.images, false, &can.images, &can.images_from);
  can.context_tokens = config.context > 0 ? config.context : said.context_tokens.value_or(0);
  can.context_from = config.context > 0    ? AbilityFrom::kConfigured
                     : said.context_tokens ? AbilityFrom::kServer
                                           : AbilityFrom::kAssumed;
  return can;
}

bool Can(const Abilities& abilities, const sched::Needs& needs) {
  return (abilities.chat || !needs.chat) && (abilities.tools || !needs.tools) && (abilities.images || !needs.images) &&
         (abilities.context_tokens == 0 || needs.context_tokens <= abilities.context_tokens);
}

sched::Contexts ContextsOf(const std::vector<Abilities>& servers) {
  sched::Contexts contexts = sched::NoContext();
  for (const Abilities& server : servers) {
    const int context = server.context_tokens > 0 ? server.context_tokens : sched::kUnlimited;
    for (size_t set = 0; set < contexts.size(); ++set) {
      sched::Needs needs;
      needs.chat = (set & 1) != 0, needs.tools = (set & 2) != 0, needs.images = (set & 4) != 0;
      if (Can(server, needs)) contexts[set] = std::max(contexts[set], context);
    }
  }
  return contexts;
}

std::string ToText(const Abilities& abilities) {
  const auto part = [](bool can, const char* what, AbilityFrom from) {
    return absl::StrCat(", ", can ? "" : "no ", what, " (", ToString(from), ")");
  };
  return absl::StrCat(abilities.chat ? "chat" : "no chat", part(abilities.tools, "tools", abilities.tools_from),
                      part(abilities.images, "images", abilities.images_from), ", context ",
                      abilities.context_tokens > 0
                          ? absl::StrCat(abilities.context_tokens, " (", ToString(abilities.context_from), ")")
                          : "not known");
}

}  // namespace goad::server
