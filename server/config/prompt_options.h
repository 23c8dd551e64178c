// Which fields of an OpenAI request devices may set, beside those that goad.v1.Prompt has of its own.
#ifndef GOAD_SERVER_CONFIG_PROMPT_OPTIONS_H_
#define GOAD_SERVER_CONFIG_PROMPT_OPTIONS_H_

#include <string>
#include <vector>

namespace goad::server {

// How an answer is sampled and in which form, tools, and how much the model thinks: of OpenAI, llama.cpp, vLLM, SGLang,
// TGI and Ollama. Not among them: what makes several answers (n, best_of), what may hold up a server (grammar,
// guided_*, logit_bias), what keeps or bills something elsewhere (store, metadata, service_tier).
inline std::vector<std::string> DefaultPromptOptions() {
  return {"top_p",
          "top_k",
          "min_p",
          "typical_p",
          "top_n_sigma",
          "frequency_penalty",
          "presence_penalty",
          "repetition_penalty",
          "repeat_penalty",
          "repeat_last_n",
          "dynatemp_range",
          "dynatemp_exponent",
          "xtc_probability",
          "xtc_threshold",
          "dry_multiplier",
          "dry_base",
          "dry_allowed_length",
          "mirostat",
          "mirostat_tau",
          "mirostat_eta",
          "min_tokens",
          "response_format",
          "tools",
          "tool_choice",
          "parallel_tool_calls",
          "functions",
          "function_call",
          "chat_template_kwargs",
          "reasoning_effort",
          "reasoning",
          "thinking",
          "think",
          "enable_thinking",
          "verbosity",
          "skip_special_tokens",
          "user"};
}

// What goad itself says in every request: never a device's, whatever is configured.
inline const std::vector<std::string>& GoadsOwnOptions() {
  static const auto* const own = new std::vector<std::string>{
      "messages", "prompt",      "stream", "stream_options", "max_tokens",  "max_completion_tokens",
      "stop",     "temperature", "seed",   "logprobs",       "top_logprobs"};
  return *own;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_PROMPT_OPTIONS_H_
