#include "server/session/wire_codec.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "server/session/prompt_codec.h"

namespace goad::server {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

v1::Query GoodQuery() {
  v1::Query query;
  query.set_query_id("q");
  query.set_uncertainty(0.5);
  query.set_prompt_bits(800);
  query.set_local_delay_s(0.1);
  return query;
}
std::string Wrong(const v1::Query& query) {
  QueryMeta meta;
  std::shared_ptr<const PromptBody> prompt;
  Config config;
  config.kinds = {"chat", "summary"};
  const auto error = DecodeQuery(query, config, &meta, &prompt);
  return error ? error->message : "";
}
template <typename Change>
std::string WrongAfter(Change change) {
  v1::Query query = GoodQuery();
  change(query);
  return Wrong(query);
}

TEST(DecodeQuery, EachBadFieldIsNamedWithValueAndRange) {
  EXPECT_EQ(Wrong(GoodQuery()), "");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_uncertainty(kNaN); }), "query.uncertainty: nan is not in 0..1");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_uncertainty(-0.1); }), "query.uncertainty: -0.1 is not in 0..1");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_local_delay_s(1e308); }), "query.local_delay_s: 1e+308 is not in 0..3600");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_local_delay_s(-1); }), "query.local_delay_s: -1 is not in 0..3600");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_prompt_bits(0); }), "query.prompt_bits: 0 is not in 1..2.09715e+06");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_prompt_bits(~0ull); }),
            "query.prompt_bits: 1.84467e+19 is not in 1..2.09715e+06");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_max_output_tokens(4096); }),
            "query.max_output_tokens: 4096 is not in 0..1024");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_deadline_s(0); }), "query.deadline_s: 0 is not above 0 and at most 3600");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_edge_work_flop(kNaN); }), "query.edge_work_flop: nan is not in 0..1e+30");
  EXPECT_EQ(WrongAfter([](auto& q) { q.clear_uncertainty(); }),
            "query.uncertainty: is missing; want uncertainty, first_token or must_offload");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_prompt_kind(static_cast<v1::PromptKind>(9)); }),
            "query.prompt_kind: 9 is not TEXT (1) or CHAT (2)");
  EXPECT_EQ(WrongAfter([](auto& q) { q.mutable_first_token(); }), "query.first_token.top: 0 entries, want at least 2");
  EXPECT_EQ(WrongAfter([](auto& q) { q.mutable_inline_prompt(); }),
            "query.inline_prompt.text: is missing; prompt_kind is TEXT");
}

TEST(DecodeQuery, AKindIsOneOfTheConfiguredOnes) {
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_kind("summary"); }), "");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_kind("poem"); }), "query.kind: \"poem\" is not one of chat, summary");
  EXPECT_EQ(WrongAfter([](auto& q) { q.set_kind(std::string(1000, 'x')); }),
            "query.kind: \"" + std::string(64, 'x') + "...\" is not one of chat, summary");
  v1::Query query = GoodQuery();
  query.set_kind("chat");
  QueryMeta meta;
  std::shared_ptr<const PromptBody> prompt;
  Config config;
  EXPECT_EQ(DecodeQuery(query, config, &meta, &prompt)->message,
            "query.kind: \"chat\" is none: no kinds are configured");
  config.kinds = {"chat"};
  ASSERT_FALSE(DecodeQuery(query, config, &meta, &prompt));
  EXPECT_EQ(meta.kind, "chat");
}

TEST(DecodeQuery, TopKBecomesTheMarginUncertainty) {
  v1::Query query = GoodQuery();
  for (const auto& [token, p] : {std::pair(" Kitchen", 0.3), std::pair("kitchen", 0.3), std::pair("park", 0.4)}) {
    auto* top = query.mutable_first_token()->add_top();
    top->set_token(token);
    top->set_probability(p);
  }
  QueryMeta meta;
  std::shared_ptr<const PromptBody> prompt;
  ASSERT_FALSE(DecodeQuery(query, Config(), &meta, &prompt));
  EXPECT_NEAR(meta.uncertainty, 1 - (0.6 - 0.4), 1e-12);
}

TEST(DecodePrompt, ChecksKindSizeAndOptions) {
  std::shared_ptr<const PromptBody> body;
  const auto wrong = [&](const v1::Prompt& prompt, bool chat) {
    const auto error = DecodePrompt(prompt, "prompt", chat, 10, LimitsConfig(), &body);
    return error ? error->message : "";
  };
  v1::Prompt prompt;
  prompt.set_text("hello");
  EXPECT_EQ(wrong(prompt, false), "");
  EXPECT_EQ(body->text, "hello");
  EXPECT_EQ(wrong(prompt, true), "prompt.chat: is missing; prompt_kind is CHAT");
  prompt.set_temperature(3);
  EXPECT_EQ(wrong(prompt, false), "prompt.temperature: 3 is not in 0..2");
  prompt.clear_temperature();
  for (int k = 0; k < 5; ++k) prompt.add_stop("x");
  EXPECT_EQ(wrong(prompt, false), "prompt.stop: 5 entries, want at most 4");
  prompt.set_text("much longer than ten");
  EXPECT_EQ(wrong(prompt, false), "prompt.text: 20 bytes, want 1..10");
  prompt.set_text("");
  EXPECT_EQ(wrong(prompt, false), "prompt.text: 0 bytes, want 1..10");
}

TEST(DecodePrompt, WhatAnOpenAiRequestHoldsGoesThroughAsFarAsAllowed) {
  std::shared_ptr<const PromptBody> body;
  LimitsConfig limits;
  limits.prompt_options = {"top_p", "tools"};
  const auto wrong = [&](const v1::Prompt& prompt, bool chat, int64_t most = 1000) {
    const auto error = DecodePrompt(prompt, "prompt", chat, most, limits, &body);
    return error ? error->message : "";
  };
  v1::Prompt prompt;
  prompt.set_text("hello");
  prompt.set_options_json(R"({ "top_p": 0.5 })");
  EXPECT_EQ(wrong(prompt, false), "");
  EXPECT_EQ(body->options, R"({"top_p":0.5})");
  EXPECT_FALSE(body->tools);
  EXPECT_EQ(wrong(prompt, false, 20), "prompt.options_json: 16 bytes, want 0..15") << "text and options count together";
  prompt.set_text("");
  EXPECT_EQ(wrong(prompt, false), "prompt.text: 0 bytes, want 1..1000") << "options are no prompt";
  prompt.set_text("hello");
  prompt.set_options_json(R"({"top_p":0.5,"n":2})");
  EXPECT_EQ(wrong(prompt, false), "prompt.options_json: \"n\" is not passed on; allowed are top_p, tools");
  prompt.set_options_json(R"({"tools":[{}]})");
  EXPECT_EQ(wrong(prompt, false), "prompt.options_json: tools: only with prompt_kind CHAT");

  v1::ChatMessage* message = prompt.mutable_chat()->add_messages();
  message->set_json(
      R"({"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]})");
  prompt.mutable_chat()->add_messages()->set_role("developer");
  prompt.set_reasoning(true);
  EXPECT_EQ(wrong(prompt, true), "");
  EXPECT_TRUE(body->tools && body->reasoning);
  EXPECT_EQ(body->messages[0].content, "42");
  EXPECT_NE(body->messages[0].json.find("tool_call_id"), std::string::npos);
  EXPECT_EQ(body->messages[1].role, "developer");
  message->set_role("user");
  EXPECT_EQ(wrong(prompt, true),
            "prompt.chat.messages[0].json: stands beside a role or a content; want one or the other");
  message->clear_role();
  const std::string image =
      R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"http://10.0.0.1/x"}}]})";
  message->set_json(image);
  EXPECT_EQ(wrong(prompt, true),
            "prompt.chat.messages[0].json: content[0].image_url.url: \"http://10.0.0.1/x\" does not begin with data:");
  limits.remote_images = true;
  EXPECT_EQ(wrong(prompt, true), "");
}

TEST(DecodeQuery, WhatItNeedsIsWhatItSaysAndWhatItsInlinePromptHas) {
  const auto needs = [](const v1::Query& query) {
    QueryMeta meta;
    std::shared_ptr<const PromptBody> prompt;
    const auto error = DecodeQuery(query, Config(), &meta, &prompt);
    return error ? error->message : ToString(meta.needs);
  };
  v1::Query query = GoodQuery();
  query.set_uncertainty(0.5);
  query.set_prompt_tokens(100);
  query.set_max_output_tokens(0);
  EXPECT_EQ(needs(query), "100 tokens of context") << "the limit on an answer is no need";
  query.set_max_output_tokens(28);
  query.set_needs_tools(true);
  query.set_needs_images(true);
  query.set_prompt_kind(v1::PROMPT_KIND_CHAT);
  EXPECT_EQ(needs(query), "chat, tools, images, 128 tokens of context");
  query.clear_needs_tools();
  query.clear_needs_images();
  query.clear_prompt_bits();
  v1::Prompt& prompt = *query.mutable_inline_prompt();
  v1::ChatMessage& message = *prompt.mutable_chat()->add_messages();
  message.set_json(R"({"role":"user","content":"hi"})");
  EXPECT_EQ(needs(query), "chat, 128 tokens of context");
  prompt.set_options_json(R"({"tools":[{}]})");
  EXPECT_EQ(needs(query), "chat, tools, 128 tokens of context") << "an Ask need not say so";
  prompt.clear_options_json();
  message.set_json(
      R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]})");
  EXPECT_EQ(needs(query), "chat, images, 128 tokens of context");
  message.set_json(R"({"role":"tool","tool_call_id":"c","content":"4"})");
  EXPECT_EQ(needs(query), "chat, tools, 128 tokens of context");
}

TEST(DecodeLinks, ConvertsEachUnitOnceAndRefusesTheUnknown) {
  Config config;
  for (const char* name : {"a", "b", "c", "d"}) {
    SiteConfig site;
    site.name = name;
    site.uplink.model = site.name == "d" ? sched::UplinkModel::kMeasured : sched::UplinkModel::kShannon;
    config.sites.push_back(site);
  }
  const MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(100));
  v1::LinkReport report;
  const auto add = [&](const char* site) {
    auto* link = report.add_links();
    link->set_site(site);
    return link;
  };
  add("a")->set_gain_db(-90);
  add("b")->set_rsrp_dbm(-80);  // reference power 18 dBm
  add("c")->set_uplink_snr_db(20);
  auto* bps = add("d");
  bps->set_uplink_bps(5e6);
  bps->set_age_s(2);
  config.neighbours = {{"other.example:7443", {"n1"}}};
  add("n1")->set_gain_db(-70);
  std::vector<LinkMeasurement> links;
  std::vector<HeardSite> heard;
  ASSERT_FALSE(DecodeLinks(report.links(), config, 0.2, now, &links, &heard));
  ASSERT_EQ(links.size(), 4u);
  ASSERT_EQ(heard.size(), 5u);
  EXPECT_EQ(heard[4].site, "n1");
  EXPECT_EQ(heard[4].neighbour, &config.neighbours[0]);
  EXPECT_EQ(heard[0].neighbour, nullptr);
  EXPECT_NEAR(links[0].gain, 1e-9, 1e-21);
  EXPECT_NEAR(links[1].gain, std::pow(10, -9.8), 1e-20);
  EXPECT_NEAR(links[2].gain * 0.2 / (1e8 * std::pow(10, -20.4)), 100, 1e-9);  // SNR again
  EXPECT_EQ(links[3].uplink_bps, 5e6);
  EXPECT_EQ(now - links[3].measured_at, absl::Seconds(2));
  const auto wrong = [&](auto change) {
    v1::LinkReport bad;
    auto* link = bad.add_links();
    link->set_site("a");
    link->set_gain_db(-90);
    change(*link);
    std::vector<LinkMeasurement> ignored;
    return DecodeLinks(bad.links(), config, 0.2, now, &ignored, &heard)->message;
  };
  EXPECT_EQ(wrong([](auto& l) { l.set_site("z"); }), "link_report.links.site: \"z\" is not one of a, b, c, d");
  EXPECT_EQ(wrong([](auto& l) { l.set_gain_db(3); }), "link_report.links.gain_db: 3 is not in -300..0");
  EXPECT_EQ(wrong([](auto& l) { l.set_uplink_bps(kNaN); }), "link_report.links.uplink_bps: nan is not in 1..1e+12");
  EXPECT_EQ(wrong([](auto& l) { l.set_age_s(-1); }), "link_report.links.age_s: -1 is not in 0..3600");
  EXPECT_EQ(wrong([](auto& l) { l.clear_measurement(); }),
            "link_report.links.measurement: is missing; want gain_db, rsrp_dbm, uplink_snr_db or uplink_bps");
  EXPECT_EQ(wrong([](auto& l) { l.set_uplink_bps(1e6); }),
            "link_report.links.measurement: site \"a\" predicts from gain_db, rsrp_dbm or uplink_snr_db, not from "
            "uplink_bps");
  EXPECT_EQ(wrong([](auto& l) { l.set_site("n1"), l.set_gain_db(kNaN); }),
            "link_report.links.gain_db: nan is not in -300..0");
  EXPECT_EQ(heard.size(), 6u) << "and of the wrong ones that which is not used";
  // What is wrong in a report does not take the rest of it away: a site that a reload removed, say.
  links.clear();
  report.mutable_links(1)->set_site(std::string(4 << 20, '\n'));
  const auto partly = DecodeLinks(report.links(), config, 0.2, now, &links, &heard);
  EXPECT_EQ(partly->reason, "UNKNOWN_SITE");
  EXPECT_LT(partly->message.size(), 400u);  // what a device writes is clipped where it is quoted
  EXPECT_EQ(links.size(), 3u);
}

TEST(Names, HoldNoControlCharacters) {
  for (const char* bad : {"a\nb", "\x1b[2J", "tab\t", "del\x7f", "c1\xc2\x9b"}) {
    EXPECT_TRUE(CheckQueryId(bad, "query.query_id")) << bad;
  }
  EXPECT_TRUE(CheckQueryId(std::string("nul\0", 4), "query.query_id"));
  EXPECT_FALSE(CheckQueryId("Gerät 7", "query.query_id"));
}

}  // namespace
}  // namespace goad::server
