// Old SDKs before the new goad, and an old goad behind the new SDK: data/compat/frames-*/ holds what went over the wire
// once.
#include "tests/compat/frames.h"

#include <google/protobuf/text_format.h>

#include <filesystem>
#include <set>

#include "gtest/gtest.h"
#include "server/session/session_core.h"
#include "server/session/wire_codec.h"
#include "server/wire/enums.h"

namespace goad::compat {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::vector<std::string> Recorded() {
  std::vector<std::string> paths;
  for (const auto& folder : std::filesystem::directory_iterator(GOAD_TEST_DATA "/compat")) {
    if (folder.path().filename().string().rfind("frames-", 0) != 0) continue;
    for (const auto& file : std::filesystem::directory_iterator(folder)) paths.push_back(file.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// A field that no message has today, on the wire: number 1000, three bytes.
const std::string kFuture(
    "\xC2\x3E\x03"
    "new",
    6);

// --- the new goad before an old device

// The fields that there were when set N was recorded (frames-N beside protocol-N.txt): what is set beyond them came
// later, and a device of then passes it over.
using Fields = std::set<std::string>;
Fields FieldsOfThen(const std::string& set) {
  Fields names;
  std::ifstream in(absl::StrCat(GOAD_TEST_DATA "/compat/protocol-", set, ".txt"));
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words[0] == "field") names.insert(words[1]);
  }
  EXPECT_FALSE(names.empty()) << "no protocol-" << set << ".txt";
  return names;
}
std::string SetOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().filename().string();
  return folder.substr(folder.find('-') + 1);
}

// Words for people, and how long to wait, which is jittered: that it is there is enough.
const std::set<std::string> kFree = {"goad.v1.Error.message", "goad.v1.Error.retry_after_s",
                                     "goad.v1.Decision.retry_after_s", "goad.v1.Goodbye.message",
                                     "goad.v1.Goodbye.reconnect_after_s"};

// How long something took then; here nobody waits.
const std::set<std::string> kMeasured = {"goad.v1.Decision.queue_s"};

// What an old device would see otherwise than it did; empty when nothing.
std::string Difference(const Fields& known, const Message& then, const Message& now) {
  std::set<const FieldDescriptor*> fields;
  std::vector<const FieldDescriptor*> listed;
  then.GetReflection()->ListFields(then, &listed);
  fields.insert(listed.begin(), listed.end());
  now.GetReflection()->ListFields(now, &listed);
  fields.insert(listed.begin(), listed.end());
  for (const FieldDescriptor* field : fields) {
    if (known.count(field->full_name()) == 0 || kMeasured.count(field->full_name()) != 0) continue;
    const auto* a = then.GetReflection();
    const auto* b = now.GetReflection();
    if (field->is_repeated()) {
      const int count = a->FieldSize(then, field);
      if (b->FieldSize(now, field) != count) return absl::StrCat(field->full_name(), ": ", b->FieldSize(now, field));
      for (int k = 0; k < count; ++k) {
        if (field->message_type() == nullptr) {
          std::string was, is;
          google::protobuf::TextFormat::PrintFieldValueToString(then, field, k, &was);
          google::protobuf::TextFormat::PrintFieldValueToString(now, field, k, &is);
          if (was != is) return absl::StrCat(field->full_name(), "[", k, "]: ", is, " instead of ", was);
          continue;
        }
        std::string found =
            Difference(known, a->GetRepeatedMessage(then, field, k), b->GetRepeatedMessage(now, field, k));
        if (!found.empty()) return found;
      }
      continue;
    }
    const bool had = field->has_presence() ? a->HasField(then, field) : true;
    const bool has = field->has_presence() ? b->HasField(now, field) : true;
    if (had != has) return absl::StrCat(field->full_name(), has ? ": is set" : ": is not set");
    if (field->message_type() != nullptr) {
      std::string found = Difference(known, a->GetMessage(then, field), b->GetMessage(now, field));
      if (!found.empty()) return found;
      continue;
    }
    std::string old_text, new_text;
    google::protobuf::TextFormat::PrintFieldValueToString(then, field, -1, &old_text);
    google::protobuf::TextFormat::PrintFieldValueToString(now, field, -1, &new_text);
    const bool zero = old_text == "0" || old_text == "\"\"";
    if (kFree.count(field->full_name()) == 0 ? old_text != new_text : zero != (new_text == "0" || new_text == "\"\"")) {
      return absl::StrCat(field->full_name(), ": ", new_text, ", was ", old_text);
    }
  }
  return "";
}

TEST(Comparison, NoticesWhatAnOldDeviceWould) {
  const Fields known = FieldsOfThen("1");
  v1::ServerFrame then;
  v1::Decision& decision = *then.mutable_decision();
  decision.set_query_id("q");
  decision.set_epoch(7);
  decision.set_retry_after_s(1.5);
  const auto with = [&](const std::function<void(v1::Decision&)>& change) {
    v1::ServerFrame now = then;
    change(*now.mutable_decision());
    return Difference(known, then, now);
  };
  EXPECT_EQ(with([](v1::Decision&) {}), "");
  EXPECT_EQ(with([](v1::Decision& d) { d.set_epoch(8); }), "goad.v1.Decision.epoch: 8, was 7");
  EXPECT_EQ(with([](v1::Decision& d) { d.clear_epoch(); }), "goad.v1.Decision.epoch: 0, was 7");
  EXPECT_EQ(with([](v1::Decision& d) { d.set_site("a"); }), "goad.v1.Decision.site: \"a\", was \"\"");
  EXPECT_EQ(with([](v1::Decision& d) { d.set_retry_after_s(1.25); }), "");
  EXPECT_EQ(with([](v1::Decision& d) { d.clear_retry_after_s(); }), "goad.v1.Decision.retry_after_s: 0, was 1.5");
  EXPECT_EQ(with([](v1::Decision& d) { EXPECT_TRUE(d.MergeFromString(kFuture)); }), "");
  EXPECT_NE(Difference(known, then, v1::ServerFrame()), "");
  then.Clear();
  then.mutable_welcome()->add_sites()->set_name("a");
  v1::ServerFrame now = then;
  now.mutable_welcome()->mutable_sites(0)->set_chat(true);
  EXPECT_EQ(Difference(known, then, now), "goad.v1.SiteInfo.chat: true, was false");
  now.mutable_welcome()->clear_sites();
  EXPECT_NE(Difference(known, then, now), "");
}

struct NoStream final : server::SessionStream {
  void Pump() override {}
  void End(const server::ErrorInfo&) override {}
};

// The session's rooms without gRPC. The engine and the dispatcher are the recording: what they said then is said again.
class OldDevice {
 public:
  OldDevice(Fields known, uint64_t session_id)
      : known_(std::move(known)),
        config_(RecordedConfig()),
        session_(std::make_shared<server::Session>(server::SessionId{session_id}, "peer", 1 << 20, &metrics_,
                                                   &outboxes_, now_)),
        core_(session_, server::Caller(),
              {&config_, &inbox_, &registry_, &memory_, &metrics_, &next_query_id_, &inline_bytes_, &limiter_,
               &outboxes_, [this](const server::LocalModelPtr&) { return config_.Current()->policy.tau; }}) {
    EXPECT_EQ(registry_.Add(session_, std::make_shared<NoStream>(), {"peer", server::kDefaultTenant, {}},
                            config_.Current()->limits),
              std::nullopt);
  }
  ~OldDevice() { registry_.Remove(session_->id); }

  // What its sites could is what the dispatcher had said by then.
  void SitesCan(const google::protobuf::RepeatedPtrField<v1::SiteInfo>& sites) {
    server::SiteAbilities abilities;
    for (const server::SiteConfig& site : config_.Current()->sites) {
      auto& list = abilities.emplace_back();
      for (const v1::SiteInfo& info : sites) {
        if (info.name() != site.name) continue;
        for (const v1::Abilities& wire : info.abilities()) {
          const auto from = [](v1::Abilities::From who) { return static_cast<server::AbilityFrom>(who - 1); };
          list.push_back({wire.chat(), wire.tools(), wire.images(), static_cast<int>(wire.context_tokens()),
                          from(wire.tools_from()), from(wire.images_from()), from(wire.context_from())});
        }
      }
    }
    registry_.SitesCan(std::move(abilities));
  }
  void Sent(const v1::DeviceFrame& frame) {
    Step();
    EXPECT_TRUE(core_.OnFrame(frame, now_));
  }
  void Asked(const v1::AskRequest& request) {
    Step();
    EXPECT_EQ(core_.OnAsk(request, now_), std::nullopt);
  }
  // What goad says now where it said `then`.
  v1::ServerFrame Says(const v1::ServerFrame& then) {
    Step();
    v1::ServerFrame frame = Next();
    if (frame.frame_case() != v1::ServerFrame::FRAME_NOT_SET) return frame;
    if (then.has_goodbye()) {
      registry_.StartDrain(absl::Seconds(1), now_);
    } else if (then.has_sites()) {
      UseSites(then.sites());
      SitesCan(then.sites().sites());
    } else if (auto event = EventOf(then)) {
      EXPECT_NE(registry_.Deliver(session_->id, *event), server::Delivery::kDropped) << then.ShortDebugString();
    }
    return Next();
  }
  // The next frame of a kind that there was then: an old device passes over the others.
  v1::ServerFrame Next() {
    for (;;) {
      server::Outbox::Step step = session_->outbox.Next();
      if (step.kind != server::Outbox::Step::kWrite) return {};
      session_->outbox.WriteDone();
      const auto* kind = v1::ServerFrame::descriptor()->FindFieldByNumber(step.frame->frame_case());
      if (kind == nullptr || known_.count(kind->full_name()) > 0) return *step.frame;
    }
  }
  size_t live() const { return session_->outbox.live(); }

 private:
  void Step() {
    now_ = now_ + absl::Milliseconds(1);
    for (const server::Event& event : inbox_.Drain(server::MonotonicTime())) {
      if (const auto* submit = std::get_if<server::SubmitQuery>(&event)) ids_[submit->query_id] = submit->id;
    }
  }
  // A configuration with these sites, those that it had in their places.
  void UseSites(const v1::Sites& wire) {
    server::Config next = *config_.Current();
    for (server::SiteConfig& site : next.sites) site.presence.removed_at = now_;
    for (const v1::SiteInfo& info : wire.sites()) {
      auto site = std::find_if(next.sites.begin(), next.sites.end(),
                               [&](const server::SiteConfig& known) { return known.name == info.name(); });
      if (site == next.sites.end()) site = next.sites.insert(next.sites.end(), server::SiteConfig{info.name()});
      site->presence = server::Presence();
      site->uplink.model =
          info.uplink() == v1::SiteInfo::UPLINK_SHANNON ? sched::UplinkModel::kShannon : sched::UplinkModel::kMeasured;
      site->backends.resize(1);
      site->backends[0].api = info.chat() ? server::BackendApi::kChat : server::BackendApi::kCompletions;
    }
    const auto published = config_.Publish(std::move(next));
    metrics_.SetConfig(*published);
    registry_.SetConfig(published);
  }
  sched::SiteIndex SiteOf(const std::string& name) const {
    const auto config = config_.Current();
    for (size_t j = 0; j < config->sites.size(); ++j) {
      if (config->sites[j].name == name) return sched::ToSite(j);
    }
    return sched::SiteIndex::kNone;
  }
  // What the engine or the dispatcher must have said for this frame; none for what a session says of its own.
  std::optional<server::SessionEvent> EventOf(const v1::ServerFrame& then) {
    switch (then.frame_case()) {
      case v1::ServerFrame::kDecision: {
        const v1::Decision& wire = then.decision();
        server::DecisionEvent event{ids_[wire.query_id()], wire.epoch()};
        event.verdict = wire.verdict() == v1::VERDICT_OFFLOAD ? sched::Verdict::kOffload : sched::Verdict::kLocal;
        for (int r = 0; r < sched::kReasonCount; ++r) {
          if (server::ToWire(static_cast<sched::Reason>(r)) == wire.reason())
            event.reason = static_cast<sched::Reason>(r);
        }
        event.site = SiteOf(wire.site());
        event.predicted_upload_s = wire.predicted_upload_s();
        event.predicted_compute_s = wire.predicted_compute_s();
        event.predicted_local_s = wire.predicted_local_s();
        event.upload_within_s = wire.upload_within_s();
        event.retry_after_s = wire.retry_after_s();
        return event;
      }
      case v1::ServerFrame::kTokens: {
        const v1::Tokens& wire = then.tokens();
        server::TokensEvent event{ids_[wire.query_id()], wire.text_offset(), wire.text(),
                                  static_cast<int>(wire.tokens())};
        for (const v1::TokenLogprob& row : wire.logprobs()) {
          server::TokenLogprob& logprob = event.logprobs.emplace_back();
          logprob.token = row.token();
          logprob.logprob = row.logprob();
          for (const v1::TokenLogprob& top : row.top()) logprob.top.push_back({top.token(), top.logprob()});
        }
        event.reasoning = wire.reasoning();
        event.refusal_bytes = wire.refusal_bytes();
        for (const v1::ToolCallPiece& row : wire.tool_calls()) {
          event.tool_calls.push_back({static_cast<int>(row.index()), row.id(), row.name(), row.arguments()});
        }
        return event;
      }
      case v1::ServerFrame::kCompleted: {
        const v1::Completed& wire = then.completed();
        server::CompletedEvent event{ids_[wire.query_id()], wire.finish_reason()};
        event.prompt_tokens = static_cast<int>(wire.prompt_tokens());
        event.output_tokens = static_cast<int>(wire.output_tokens());
        event.usage_estimated = wire.usage_estimated();
        event.site = SiteOf(wire.site());
        event.backend = wire.backend();
        event.queue_s = wire.queue_s();
        event.ttft_s = wire.ttft_s();
        event.total_s = wire.total_s();
        event.compute_s = wire.compute_s();
        event.upload_s = wire.upload_s();
        event.predicted_upload_s = wire.predicted_upload_s();
        event.predicted_compute_s = wire.predicted_compute_s();
        event.text_bytes = wire.text_bytes();
        return event;
      }
      case v1::ServerFrame::kFailed: {
        const v1::Failed& wire = then.failed();
        server::FailedEvent event{ids_[wire.query_id()]};
        for (int c = 0; c <= static_cast<int>(server::ErrorCode::kInternal); ++c) {
          event.error.code = static_cast<server::ErrorCode>(c);
          if (server::EncodeError(event.error).code() == wire.error().code()) break;
        }
        event.error.reason = wire.error().reason();
        event.error.field = wire.error().field();
        event.error.message = wire.error().message();
        event.error.retry_after_s = wire.error().retry_after_s();
        event.answer_locally = wire.answer_locally();
        event.text_bytes = wire.text_bytes();
        return event;
      }
      default: return std::nullopt;
    }
  }

  const Fields known_;
  server::MonotonicTime now_ = server::MonotonicTime::FromOrigin(absl::Seconds(100));
  server::ConfigStore config_;
  server::Metrics metrics_{{{"radio", "rate"}, {{"u"}, {"v"}}}};
  server::Inbox inbox_{100};
  server::QueryMemory memory_{100};
  server::TenantLimiter limiter_;
  server::OutboxBudget outboxes_;
  std::atomic<uint64_t> next_query_id_{1};
  std::atomic<int64_t> inline_bytes_{0};
  server::SessionRegistry registry_{config_.Current(), &metrics_, &memory_, [this] { return now_; }, [](auto) {}};
  std::map<std::string, sched::QueryId> ids_;
  std::shared_ptr<server::Session> session_;
  server::SessionCore core_;
};

// "s-7" in a greeting, or as the name of an Ask's query.
uint64_t SessionOf(const Trace& trace) {
  for (const TraceLine& line : trace.lines()) {
    if (line.kind != "server") continue;
    v1::ServerFrame frame;
    if (!frame.ParseFromString(line.value)) continue;
    const std::string name = frame.has_welcome() ? frame.welcome().session_id() : frame.decision().query_id();
    if (name.rfind("s-", 0) == 0) return std::stoull(name.substr(2));
  }
  return 1;
}

// Plays what the device sent and holds what goad says against what it said. `more` is put behind every frame of the
// device.
void PlayDevice(const std::string& path, const std::string& more) {
  SCOPED_TRACE(path);
  const Trace trace = Trace::Read(path);
  const Fields known = FieldsOfThen(SetOf(path));
  OldDevice device(known, SessionOf(trace));
  for (const TraceLine& line : trace.lines()) {  // before the greeting that tells of it
    v1::ServerFrame welcome;
    if (line.kind == "server" && welcome.ParseFromString(line.value) && welcome.has_welcome()) {
      device.SitesCan(welcome.welcome().sites());
    }
  }
  int frames = 0;
  for (const TraceLine& line : trace.lines()) {
    if (line.kind == "device") {
      v1::DeviceFrame frame;
      ASSERT_TRUE(frame.ParseFromString(line.value + more));
      device.Sent(frame);
    } else if (line.kind == "ask") {
      v1::AskRequest request;
      ASSERT_TRUE(request.ParseFromString(line.value + more));
      device.Asked(request);
    } else if (line.kind == "server") {
      v1::ServerFrame then;
      ASSERT_TRUE(then.ParseFromString(line.value));
      const v1::ServerFrame now = device.Says(then);
      ASSERT_EQ(Difference(known, then, now), "")
          << "then: " << then.ShortDebugString() << "\nnow:  " << now.ShortDebugString();
      ++frames;
    }
  }
  EXPECT_GE(frames, 3);
  EXPECT_EQ(device.live(), 0u);
  EXPECT_EQ(device.Next().frame_case(), v1::ServerFrame::FRAME_NOT_SET) << "more is said than was";
}

TEST(OldDevice, IsAnsweredAsItWas) {
  ASSERT_GE(Recorded().size(), 13u);
  for (const std::string& path : Recorded()) PlayDevice(path, "");
}

// A device of the future that sets a field which this goad does not know.
TEST(NewDevice, AnUnknownFieldInAFrameChangesNoAnswer) {
  for (const std::string& path : Recorded()) PlayDevice(path, kFuture);
}

// A frame of the future is refused by name, once each, and the session goes on: a device learns that this goad is
// older.
TEST(NewDevice, AnUnknownFrameIsAnEmptyOne) {
  OldDevice device(FieldsOfThen("1"), 1);
  v1::DeviceFrame hello, future;
  hello.mutable_hello()->set_protocol_version(1);
  ASSERT_TRUE(future.ParseFromString(kFuture));
  device.Sent(hello);
  EXPECT_TRUE(device.Next().has_welcome());
  device.Sent(future);
  const v1::ServerFrame answer = device.Next();
  EXPECT_EQ(answer.protocol_error().error().reason(), "EMPTY_FRAME");
  EXPECT_EQ(answer.protocol_error().error().code(), v1::ERROR_CODE_FAILED_PRECONDITION);
  EXPECT_EQ(answer.protocol_error().frame(), 2u);
  v1::DeviceFrame query;
  query.mutable_query()->set_query_id("q");
  query.mutable_query()->set_must_offload(true);
  query.mutable_query()->set_prompt_bits(8);
  device.Sent(query);
  EXPECT_EQ(device.live(), 1u);
}

// --- the new SDK before an old goad

struct Played {
  std::vector<std::string> then, now;
};

// Plays what the app called and goad answered, and what the app hears now. `more` is put behind every frame of goad,
// `between` is a frame that comes after each.
Played PlayApp(const std::string& path, const std::string& more, const std::string& between) {
  const Trace trace = Trace::Read(path);
  Played played;
  App app([&](const std::string& heard) { played.now.push_back(heard); });
  internal::Instant now = absl::Seconds(100);
  uint64_t generation = 0;
  const auto apply = [&] {
    for (internal::Action& action : app.core().TakeActions()) {
      if (const auto* open = std::get_if<internal::OpenStream>(&action)) generation = open->generation;
      if (const auto* notify = std::get_if<internal::Notify>(&action)) notify->call();
    }
  };
  const auto hear = [&](const std::string& bytes) {
    v1::ServerFrame frame;
    EXPECT_TRUE(frame.ParseFromString(bytes));
    app.Hear(generation, frame, now);
    apply();
  };
  app.core().Tick(now);
  apply();
  for (const TraceLine& line : trace.lines()) {
    now += absl::Milliseconds(1);
    if (line.kind == "app") app.Call(line.value, now);
    if (line.kind == "heard") played.then.push_back(line.value);
    if (line.kind == "server") {
      hear(line.value + more);
      if (!between.empty()) hear(between);
    }
    apply();
  }
  return played;
}

std::vector<std::string> RecordedApps() {
  std::vector<std::string> paths = Recorded();
  paths.erase(std::remove_if(paths.begin(), paths.end(),
                             [](const std::string& path) {
                               return std::filesystem::path(path).filename().string().rfind("sdk", 0) != 0;
                             }),
              paths.end());
  return paths;
}

TEST(OldGoad, TheAppHearsWhatItHeard) {
  ASSERT_GE(RecordedApps().size(), 5u);
  for (const std::string& path : RecordedApps()) {
    const Played played = PlayApp(path, "", "");
    EXPECT_GT(played.then.size(), 4u) << path;
    EXPECT_EQ(played.now, played.then) << path;
  }
}

TEST(NewGoad, UnknownFieldsAndFramesArePassedOver) {
  for (const std::string& path : RecordedApps()) {
    const Played played = PlayApp(path, kFuture, kFuture);
    EXPECT_EQ(played.now, played.then) << path;
  }
}

// A reason, a verdict, an error and a kind of site that this SDK does not know.
TEST(NewGoad, UnknownEnumValuesMeanAnswerLocally) {
  std::vector<std::string> heard;
  App app([&](const std::string& text) { heard.push_back(text); });
  internal::Instant now = absl::Seconds(100);
  const auto apply = [&] {
    for (internal::Action& action : app.core().TakeActions()) {
      if (const auto* notify = std::get_if<internal::Notify>(&action)) notify->call();
    }
  };
  app.core().Tick(now);
  v1::ServerFrame welcome;
  auto* site = welcome.mutable_welcome()->add_sites();
  site->set_name("a");
  site->set_uplink(static_cast<v1::SiteInfo::Uplink>(9));
  app.core().OnFrame(1, welcome, now);
  app.Call(R"(ask {"id":"q","uncertainty":0.5,"prompt":"why?"})", now);
  v1::ServerFrame decision;
  decision.mutable_decision()->set_query_id("q");
  decision.mutable_decision()->set_verdict(static_cast<v1::Verdict>(7));
  decision.mutable_decision()->set_reason(static_cast<v1::Reason>(99));
  app.core().OnFrame(1, decision, now);
  apply();
  app.Call(R"(ask {"id":"r","uncertainty":0.5,"prompt":"why?"})", now);
  v1::ServerFrame failed;
  failed.mutable_failed()->set_query_id("r");
  failed.mutable_failed()->mutable_error()->set_code(static_cast<v1::ErrorCode>(77));
  app.core().OnFrame(1, failed, now);
  apply();
  ASSERT_EQ(heard.size(), 3u);
  const auto why = [&](size_t k) { return nlohmann::json::parse(heard[k]).value("why_local", ""); };
  EXPECT_EQ(why(1), "REASON_99");
  EXPECT_EQ(why(2), "ERROR_CODE_77");
}

// Raw sessions: frames for queries that this client never asked are none of its business.
TEST(OldGoad, FramesOfOthersQueriesAreNotHeard) {
  for (const std::string& path : Recorded()) {
    if (path.find("/sdk") != std::string::npos) continue;
    const Played played = PlayApp(path, "", "");
    for (const std::string& heard : played.now) {
      EXPECT_TRUE(nlohmann::json::parse(heard).contains("problem")) << path << ": " << heard;
    }
  }
}

// --- the recordings hold what there is to hold

TEST(Recordings, HoldEveryKindOfFrameAndField) {
  std::map<std::string, std::set<std::string>> seen;  // by set
  std::string set;
  const std::function<void(const Message&)> look = [&](const Message& message) {
    std::vector<const FieldDescriptor*> fields;
    message.GetReflection()->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      seen[set].insert(field->full_name());
      if (field->message_type() == nullptr) continue;
      if (!field->is_repeated()) {
        look(message.GetReflection()->GetMessage(message, field));
      } else {
        for (int k = 0; k < message.GetReflection()->FieldSize(message, field); ++k) {
          look(message.GetReflection()->GetRepeatedMessage(message, field, k));
        }
      }
    }
  };
  for (const std::string& path : Recorded()) {
    const Trace trace = Trace::Read(path);
    set = SetOf(path);
    for (const TraceLine& line : trace.lines()) {
      v1::DeviceFrame device;
      v1::ServerFrame server;
      v1::AskRequest ask;
      if (line.kind == "device" && device.ParseFromString(line.value)) look(device);
      if (line.kind == "server" && server.ParseFromString(line.value)) look(server);
      if (line.kind == "ask" && ask.ParseFromString(line.value)) look(ask);
    }
  }
  // Only failures that are hard to bring about say when to come again; Decision.retry_after_s is there.
  const std::set<std::string> not_recorded = {"goad.v1.Error.retry_after_s"};
  const auto* devices_file = v1::ServerFrame::descriptor()->file();
  for (const auto& [of, fields] : seen) {
    for (const std::string& name : FieldsOfThen(of)) {
      const auto* field = google::protobuf::DescriptorPool::generated_pool()->FindFieldByName(name);
      if (field == nullptr || field->file() != devices_file || not_recorded.count(name) > 0) continue;
      EXPECT_EQ(fields.count(name), 1u) << name << " is in no recording of set " << of;
    }
  }
}

}  // namespace
}  // namespace goad::compat
