"""What the client's user sees otherwise of goad-device than of the llama-server behind it, field by field, and why that is so."""
import json
import re

# Cases that an endpoint cannot pass: llama-server has no GET /v1/models/ID.
CANNOT = {("llama-server slm", "model"), ("llama-server llm", "model")}

# (runs, cases, field, reason), each a regular expression but for the reason. "only" is what one side alone has.
REASONS = [(who, re.compile(case), re.compile(path), why) for who, case, path, why in [
    ("", "", r"(^|\.)goad\.", "goad-device's own object: who answered and why"),
    ("", "", r"system_fingerprint$", "llama-server's build; the answer may be another server's"),
    ("", "", r"(^|\.)timings\.", "llama-server's own timings"),
    ("", "", r"prompt_tokens_details\.cached_tokens$", "what a server had cached is not told on"),
    ("", "", r"choices\[0\]\.logprobs$", "null where there are none, as OpenAI's API has it; llama-server leaves the field out"),
    ("", "", r"(^|\.)refusal$", "null where there is none, as OpenAI's API has it; llama-server leaves the field out"),
    ("", "", r"logprobs\.content\[\d+\](\.top_logprobs\[\d+\])?\.id$", "llama.cpp's number of a token, which OpenAI's API has not"),
    ("", "completion", r"(^|\.)id$", "cmpl-..., as OpenAI's API has it; llama-server writes chatcmpl-... here, too"),
    ("", "logprobs", r"logprobs\.content\[1\]\.", "of the token that ends an answer, which llama-server tells when it does not stream, and the local model always streams"),
    ("", "completion_logprobs", r"choices\[0\]\.logprobs\.", "OpenAI's older shape (tokens, token_logprobs, top_logprobs, text_offset); llama-server has chat's here"),
    ("", "_streamed", r"first\.choices\[0\]\.(delta|logprobs)\.", "the first chunk has the first text, llama-server's the role alone"),
    ("", "_streamed", r"some\.choices\[0\]\.delta\.role$", "the first text is in the first chunk, which has the role"),
    ("", "completion_streamed", r"(last|usage)\.(usage|choices)", "usage is in a chunk of its own, as OpenAI's API has it; llama-server's is in the last one"),
    ("", "^tools", r"message\.content$", "null beside calls of tools, as OpenAI's API has it; llama-server has an empty text"),
    ("", "^tools", r"usage\.(completion|total)_tokens$", "blanks in the JSON that the model writes: a prompt that was cached is computed in other batches"),
    ("edge", "", r"(^|\.)model$", "the edge's models are its operator's: the answer bears the name that was asked for"),
    ("", "^models$", r"^one\.", "of a model its name alone; owned_by says that it is the device's"),
    ("", "^models?$", r"", "llama-server has no GET /v1/models/ID"),
    ("", "^no_model$|^bad_|^no_messages$|^unknown_url$|^too_long$", r"^(code|message|param)$", "the words of whoever refuses; the class, the status and the type are compared"),
    ("", "^no_model$|^unknown_url$|^too_long$", r"^type$", "invalid_request_error, as OpenAI's API has it; llama-server has types of its own"),
    ("", "^embeddings$", r"", "goad-device has no embeddings: an unknown URL, 404; llama-server has the URL and says 501"),
    ("", "^two_answers$", r"", "goad-device gives one answer: 400"),
    ("", "^wrong_key$", r"", "the plain llama-servers run without a key"),
]]


def flatten(value, path=""):
    """{path: value}; ids and times are only of the right kind, JSON in a text is compared as JSON."""
    if isinstance(value, dict) and value:
        return {inner: kept for key in value for inner, kept in flatten(value[key], f"{path}.{key}" if path else key).items()}
    if isinstance(value, list) and value:
        return {inner: kept for k, entry in enumerate(value) for inner, kept in flatten(entry, f"{path}[{k}]").items()}
    last = path.rsplit(".", 1)[-1]
    if last == "id" and isinstance(value, str):
        return {path: re.match("(chatcmpl-|cmpl-)?", value).group()}
    if last == "created":
        return {path: "a time" if isinstance(value, int) and value > 1600000000 else "no time"}
    if last in ("arguments", "content") and isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return {path: json.dumps(json.loads(value))}
        except ValueError:
            pass
    if last == "logprob":
        return {path: round(value, 1)}  # a prompt that was cached is computed in other batches
    return {path: value}


def compare(plain, ours, who):
    """Prints what differs, by reason; the differences that have none."""
    told, unexplained = {}, []
    for case in {**plain, **ours}:
        a, b = flatten(plain.get(case, "(fails)")), flatten(ours.get(case, "(fails)"))
        for path in sorted(set(a) | set(b)):
            x, y = a.get(path, "(absent)"), b.get(path, "(absent)")
            if x == y and type(x) is type(y):
                continue
            why = next((why for run, cases, paths, why in REASONS if run in who and cases.search(case) and paths.search(path)), None)
            line = f"{case}: {path}: {str(x)[:90]!r} there, {str(y)[:90]!r} here"
            if why is None:
                unexplained.append(line)
            else:
                told.setdefault(why, []).append(line)
    print(f"{who}: fields that differ from the llama-server's, by reason")
    for why, lines in told.items():
        print(f"  {len(lines):4} {why}\n       {lines[0]}")
    for line in unexplained:
        print(f"  WITHOUT A REASON {line}")
    return unexplained
