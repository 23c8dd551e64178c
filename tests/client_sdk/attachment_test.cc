// A client with several addresses: who is asked, who is left, and who is gone back to.
#include "client_sdk/src/attachment.h"

#include <algorithm>
#include <map>
#include <set>

#include "client_sdk/src/client_core.h"
#include "gtest/gtest.h"

namespace goad::internal {
namespace {

constexpr char kA[] = "a.example:7443", kB[] = "b.example:7443", kC[] = "c.example:7443";

class AttachmentTest : public testing::Test {
 protected:
  struct Open {
    std::string address;
    std::vector<v1::DeviceFrame> sent;
  };

  AttachmentTest() { Start({}); }
  void Start(ClientOptions options, uint64_t seed = 1) {
    options.address = kA;
    if (options.other_addresses.empty()) options.other_addresses = {kB};
    options.on_problem = [this](const Problem& problem) { problems_.push_back(problem.code); };
    open_.clear(), opened_.clear(), answers_.clear(), problems_.clear();
    core_ = std::make_unique<ClientCore>(options, seed);
    Tick();
  }
  void Tick() {
    core_->Tick(now_);
    Collect();
  }
  void Collect() {
    for (Action& action : core_->TakeActions()) {
      if (auto* open = std::get_if<OpenStream>(&action)) {
        open_[open->generation].address = open->address;
        opened_.push_back(open->address);
      } else if (auto* send = std::get_if<SendFrame>(&action)) {
        ASSERT_EQ(open_.count(send->generation), 1u) << "a frame for a stream that is not open";
        open_[send->generation].sent.push_back(send->frame);
      } else if (auto* notify = std::get_if<Notify>(&action)) {
        notify->call();
      } else {
        ASSERT_EQ(open_.erase(std::get<CloseStream>(action).generation), 1u);
      }
    }
  }
  // In the steps in which the client wakes by itself.
  void Pass(absl::Duration time) {
    const Instant until = now_ + time;
    for (int steps = 0; steps < 10000; ++steps) {
      const Instant wake = std::max(core_->NextWake(), now_);
      if (wake > until) break;
      now_ = wake;
      Tick();
      if (core_->NextWake() <= now_) ADD_FAILURE() << "spins";
    }
    now_ = until;
    Tick();
  }
  // The newest stream to the address; 0 = there is none.
  uint64_t To(const std::string& address) const {
    uint64_t newest = 0;
    for (const auto& [generation, stream] : open_) {
      if (stream.address == address) newest = generation;
    }
    return newest;
  }
  void Frame(uint64_t generation, const v1::ServerFrame& frame) {
    core_->OnFrame(generation, frame, now_);
    Collect();
    Tick();
  }
  void Greet(const std::string& address) {
    v1::ServerFrame frame;
    frame.mutable_welcome()->add_sites()->set_name(address == kA ? "s-a" : "s-other");
    frame.mutable_welcome()->mutable_limits()->set_queries_per_session(queries_per_session_);
    ASSERT_NE(To(address), 0u);
    Frame(To(address), frame);
  }
  void Lose(uint64_t generation, absl::Duration retry_after = absl::ZeroDuration()) {
    open_.erase(generation);
    core_->OnStreamLost(generation, "gone", now_, retry_after);
    Collect();
    Tick();
  }
  void Goodbye(const std::string& address, double after_s, const std::string& neighbour = "", bool moved = false) {
    v1::ServerFrame frame;
    frame.mutable_goodbye()->set_reconnect_after_s(after_s);
    frame.mutable_goodbye()->set_neighbour(neighbour);
    frame.mutable_goodbye()->set_moved(moved);
    Frame(To(address), frame);
  }
  std::string Ask() {
    Query query;
    query.uncertainty = 0.9;
    query.prompt = "why?";
    AskCallbacks callbacks;
    callbacks.on_done = [this](const Answer& answer) { answers_[answer.query_id].push_back(answer); };
    const std::string id = core_->Ask(
        query, std::move(callbacks), [] {}, now_);
    Collect();
    return id;
  }
  // Which goad answers a question that is asked now; "" = none does.
  std::string Served() {
    const std::string id = Ask(), at = AskedAt(id);
    if (at.empty()) return "";
    Grant(To(at), id), Text(To(at), id), Complete(To(at), id);
    EXPECT_EQ(answers_[id].size(), 1u);
    return answers_[id].at(0).source == Answer::Source::kEdge ? at : "";
  }
  // Which goad the query was sent to, last; "" = none that is still open.
  std::string AskedAt(const std::string& id) const {
    std::string at;
    for (const auto& [generation, stream] : open_) {
      for (const v1::DeviceFrame& frame : stream.sent) {
        if (frame.query().query_id() == id) at = stream.address;
      }
    }
    return at;
  }
  void Grant(uint64_t generation, const std::string& id) {
    v1::ServerFrame frame;
    frame.mutable_decision()->set_query_id(id);
    frame.mutable_decision()->set_verdict(v1::VERDICT_OFFLOAD);
    Frame(generation, frame);
  }
  void Text(uint64_t generation, const std::string& id) {
    v1::ServerFrame frame;
    frame.mutable_tokens()->set_query_id(id);
    frame.mutable_tokens()->set_text("x");
    Frame(generation, frame);
  }
  void Complete(uint64_t generation, const std::string& id) {
    v1::ServerFrame frame;
    frame.mutable_completed()->set_query_id(id);
    frame.mutable_completed()->set_text_bytes(1);
    Frame(generation, frame);
  }

  void Draining(uint64_t generation, const std::string& id) {
    v1::ServerFrame frame;
    frame.mutable_decision()->set_query_id(id);
    frame.mutable_decision()->set_verdict(v1::VERDICT_LOCAL);
    frame.mutable_decision()->set_reason(v1::REASON_DRAINING);
    Frame(generation, frame);
  }

  uint32_t queries_per_session_ = 0;  // 0 = any number
  Instant now_ = absl::Seconds(1);
  std::unique_ptr<ClientCore> core_;
  std::map<uint64_t, Open> open_;
  std::vector<std::string> opened_;
  std::map<std::string, std::vector<Answer>> answers_;
  std::vector<std::string> problems_;
};

TEST_F(AttachmentTest, WhoIsLostIsLeftForTheNextOneAndGoneBackToWhenItHasBeenWellForAWhile) {
  Greet(kA);
  EXPECT_EQ(Served(), kA);
  const std::string lost = Ask();
  Lose(To(kA));
  EXPECT_EQ(answers_.count(lost), 0u) << "asked again elsewhere";
  Pass(absl::Milliseconds(500));
  ASSERT_NE(To(kB), 0u) << "within half a second";
  Greet(kB);
  EXPECT_EQ(AskedAt(lost), kB);
  Grant(To(kB), lost), Text(To(kB), lost), Complete(To(kB), lost);
  EXPECT_EQ(core_->sites()[0].name, "s-other");

  Pass(absl::Seconds(2));
  ASSERT_NE(To(kA), 0u) << "is tried meanwhile";
  EXPECT_EQ(Served(), kB);
  Greet(kA);
  Pass(absl::Milliseconds(9900));
  const std::string before = Ask();
  EXPECT_EQ(AskedAt(before), kB) << "not yet";
  Grant(To(kB), before);
  Text(To(kB), before);
  const uint64_t b = To(kB);
  Pass(absl::Seconds(11));
  EXPECT_EQ(Served(), kA);
  EXPECT_EQ(core_->sites()[0].name, "s-a");
  ASSERT_EQ(To(kB), b) << "what runs there is finished there";
  Complete(b, before);
  ASSERT_EQ(answers_[before].size(), 1u);
  EXPECT_EQ(answers_[before][0].source, Answer::Source::kEdge);
  EXPECT_EQ(answers_[before][0].goad, kB);
  EXPECT_EQ(To(kB), 0u) << "nothing runs there any more";
}

TEST_F(AttachmentTest, APreferredOneThatDoesNotComeBackCostsNothing) {
  Greet(kA);
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  for (int k = 0; k < 5; ++k) {
    Pass(absl::Seconds(20));
    ASSERT_NE(To(kA), 0u);
    const std::string id = Ask();
    Lose(To(kA));
    EXPECT_EQ(AskedAt(id), kB);
    Grant(To(kB), id), Text(To(kB), id), Complete(To(kB), id);
    EXPECT_EQ(answers_[id].at(0).source, Answer::Source::kEdge);
  }
}

TEST_F(AttachmentTest, ATrialTakesOverWhenTheOtherIsLost) {
  Greet(kA);
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  Pass(absl::Seconds(2));
  Greet(kA);
  Lose(To(kB));
  EXPECT_EQ(Served(), kA);
}

TEST_F(AttachmentTest, WhoRefusesIsLeftAndNotAskedBeforeItWantsIt) {
  Lose(To(kA), absl::Seconds(60));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  EXPECT_EQ(Served(), kB);
  Pass(absl::Seconds(58));
  EXPECT_EQ(To(kA), 0u);
  Pass(absl::Seconds(62));
  EXPECT_NE(To(kA), 0u);
}

TEST_F(AttachmentTest, WhoDrainsFinishesWhatRunsWhileTheNextOneIsAsked) {
  Greet(kA);
  const std::string runs = Ask(), crossed = Ask(), begun = Ask();
  Grant(To(kA), runs);
  Grant(To(kA), begun);
  Text(To(kA), begun);
  Goodbye(kA, 5);
  const uint64_t a = To(kA);
  Pass(absl::Milliseconds(500));
  Greet(kB);
  EXPECT_EQ(Served(), kB);

  Draining(a, crossed);
  EXPECT_EQ(answers_.count(crossed), 0u);
  EXPECT_EQ(AskedAt(crossed), kB) << "another one may still take it";
  Text(a, runs);
  Complete(a, runs);
  EXPECT_EQ(answers_[runs].at(0).goad, kA);
  EXPECT_EQ(To(kA), a);
  Lose(a);
  EXPECT_EQ(answers_[begun].at(0).why_local, "STREAM_LOST") << "its text was seen: no other goad may answer it";
  EXPECT_EQ(answers_.count(crossed), 0u);
  // What the first goad says after the move is about nothing that it was asked.
  Text(a, crossed);
  EXPECT_EQ(answers_.count(crossed), 0u);
}

TEST_F(AttachmentTest, TheAgeOfASessionIsNoReasonToGoHoweverLongTheBackOff) {
  ClientOptions options;
  options.backoff_first = absl::Seconds(2);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Start(options, seed);
    Greet(kA);
    Goodbye(kA, 0);
    Pass(absl::Seconds(4));
    EXPECT_NE(To(kA), 0u) << "seed " << seed;
    EXPECT_EQ(opened_, (std::vector<std::string>{kA, kA})) << "seed " << seed;
  }
}

TEST_F(AttachmentTest, TheAgeOfASessionIsNoReasonToGo) {
  Greet(kA);
  const std::string runs = Ask();
  Grant(To(kA), runs);
  const uint64_t old = To(kA);
  Goodbye(kA, 0);
  Pass(absl::Milliseconds(250));
  EXPECT_EQ(To(kB), 0u);
  ASSERT_NE(To(kA), old) << "beside the one that finishes";
  Greet(kA);
  EXPECT_EQ(Served(), kA);
  Text(old, runs);
  Complete(old, runs);
  EXPECT_EQ(answers_[runs].at(0).source, Answer::Source::kEdge);
  EXPECT_EQ(open_.size(), 1u);
}

TEST_F(AttachmentTest, WhoIsSilentIsLeftAndWhoIsLateIsNot) {
  Greet(kA);
  for (int k = 0; k < 3; ++k) {
    EXPECT_NE(To(kA), 0u) << k;
    const std::string id = Ask();
    Pass(absl::Milliseconds(1000));
    EXPECT_EQ(answers_[id].at(0).why_local, "NO_DECISION");
    if (k == 1) {
      v1::ServerFrame late;
      late.mutable_decision()->set_query_id(id);
      Frame(To(kA), late);
    }
  }
  EXPECT_NE(To(kA), 0u) << "it is late";
  for (int k = 0; k < 3; ++k) {
    Ask();
    Pass(absl::Milliseconds(1000));
  }
  EXPECT_EQ(To(kA), 0u);
  Pass(absl::Milliseconds(500));
  EXPECT_NE(To(kB), 0u);
}

TEST_F(AttachmentTest, WhoSaysSomethingIsNotSilent) {
  Greet(kA);
  const std::string id = Ask(), other = Ask();
  Pass(absl::Milliseconds(500));
  Grant(To(kA), other);
  Pass(absl::Milliseconds(500));
  EXPECT_EQ(answers_[id].at(0).why_local, "NO_DECISION");
  EXPECT_NE(To(kA), 0u);
}

TEST_F(AttachmentTest, WhoDoesNotGreetIsLeftInThreeSecondsAndTheNextTimeInTwenty) {
  Pass(absl::Milliseconds(3500));
  EXPECT_EQ(To(kA), 0u);
  ASSERT_NE(To(kB), 0u);
  Lose(To(kB));
  const std::string id = Ask();
  EXPECT_EQ(answers_[id].at(0).why_local, "UNREACHABLE") << "none of them can be reached: at once";
  Pass(absl::Seconds(2));
  ASSERT_NE(To(kA), 0u);
  Pass(absl::Seconds(17));
  ASSERT_NE(To(kA), 0u) << "a slow network is given its time";
  Greet(kA);
  EXPECT_EQ(Served(), kA);
}

TEST_F(AttachmentTest, TheSameAddressTwiceIsOne) {
  ClientOptions options;
  options.other_addresses = {kA, kA};
  Start(options);
  Pass(absl::Seconds(19));
  EXPECT_NE(To(kA), 0u) << "there is no other one to try: it is given its time";
  Lose(To(kA));
  EXPECT_EQ(answers_[Ask()].at(0).why_local, "UNREACHABLE");
}

TEST_F(AttachmentTest, WhoHasMovedIsAtHomeThereAndComesBackOnlyWhenSent) {
  Greet(kA);
  const std::string runs = Ask(), crossed = Ask();
  Grant(To(kA), runs);
  Goodbye(kA, 2, kC, /*moved=*/true);
  const uint64_t a = To(kA);
  ASSERT_NE(To(kC), 0u) << "at once: nobody else moves in this instant";
  Greet(kC);
  v1::ServerFrame elsewhere;
  elsewhere.mutable_decision()->set_query_id(crossed);
  elsewhere.mutable_decision()->set_verdict(v1::VERDICT_LOCAL);
  elsewhere.mutable_decision()->set_reason(v1::REASON_NO_LINK);
  elsewhere.mutable_decision()->set_neighbour(kC);
  Frame(a, elsewhere);
  EXPECT_EQ(AskedAt(crossed), kC);
  Grant(To(kC), crossed), Text(To(kC), crossed), Complete(To(kC), crossed);
  EXPECT_EQ(Served(), kC);
  Text(a, runs);
  Complete(a, runs);
  EXPECT_EQ(answers_[runs].at(0).goad, kA);
  Pass(absl::Minutes(5));
  EXPECT_EQ(open_.size(), 1u) << "the first of the list is not preferred any more";
  Lose(To(kC));
  Pass(absl::Milliseconds(500));
  ASSERT_NE(To(kA), 0u) << "but it is there when its own goad is not";
  Greet(kA);
  Pass(absl::Seconds(2));
  Greet(kC);
  Goodbye(kC, 2, kA, /*moved=*/true);
  Pass(absl::Minutes(5));
  EXPECT_EQ(open_.size(), 1u);
  EXPECT_EQ(Served(), kA);
}

TEST_F(AttachmentTest, WhoDrainsMayNameTheNextOne) {
  Greet(kA);
  Goodbye(kA, 5, kC);
  Pass(absl::Milliseconds(500));
  ASSERT_NE(To(kC), 0u);
  EXPECT_EQ(To(kB), 0u);
  Greet(kC);
  Pass(absl::Seconds(10));
  ASSERT_NE(To(kA), 0u) << "for as long as it drains only";
}

TEST_F(AttachmentTest, AnAddressOfWhichOnlyGoadSpeaksIsGoneToWithNoTokenInTheClear) {
  ClientOptions options;
  options.token = "secret";
  Start(options);
  Greet(kA);
  Goodbye(kA, 2, kC, /*moved=*/true);
  Pass(absl::Seconds(1));
  EXPECT_EQ(To(kC), 0u);
  EXPECT_NE(To(kB), 0u) << "which its own app named";

  options.root_ca_file = "/ca.pem";
  Start(options);
  Greet(kA);
  Goodbye(kA, 2, kC, /*moved=*/true);
  EXPECT_NE(To(kC), 0u) << "TLS proves who it is";
}

TEST_F(AttachmentTest, OnlyAHostAndAPortAreGoneTo) {
  for (const std::string& address :
       {std::string("unix:/run/goad/admin.sock"), std::string("dns:///c.example:7443"), std::string("c.example"),
        std::string("c.example:0"), std::string("c.example:70000"), std::string("[::1:7443"), std::string("a b:1"),
        std::string(300, 'x') + ":1", std::string("\xff:1"), std::string(":1"), std::string(":"),
        std::string("unix:7443"), std::string("Unix-Abstract:7443"), std::string("dns:7443"), std::string("ipv4:7443"),
        std::string("vsock:3")}) {
    Start({});
    Greet(kA);
    Goodbye(kA, 2, address, /*moved=*/true);
    Pass(absl::Seconds(1));
    EXPECT_EQ(To(address), 0u) << address;
    EXPECT_NE(To(kB), 0u);
  }
  for (const char* const address : {"[2001:db8::1]:7443", "10.0.0.1:1", "c-1.example:65535", "edge_goad:7443"}) {
    Start({});
    Greet(kA);
    Goodbye(kA, 2, address, /*moved=*/true);
    EXPECT_NE(To(address), 0u) << address;
  }
}

TEST_F(AttachmentTest, AGoadThatNamesMoreAndMoreAddressesIsFollowedAndBounded) {
  Greet(kA);
  std::string at = kA;
  const Instant first = now_;
  for (int k = 0; k < 100; ++k) {
    const std::string next = "n" + std::to_string(k) + ".example:1";
    Goodbye(at, 1, next, /*moved=*/true);
    if (To(next) == 0) Pass(absl::Milliseconds(500));
    ASSERT_NE(To(next), 0u);
    Greet(next);
    at = next;
    ASSERT_LE(open_.size(), 1u);
  }
  EXPECT_EQ(now_ - first, 99 * absl::Milliseconds(500)) << "it may be one goad under ever other names";
}

TEST_F(AttachmentTest, AFleetDoesNotMoveInOneInstant) {
  constexpr int kDevices = 400;
  std::map<int64_t, int> per_50_ms;
  for (int k = 0; k < kDevices; ++k) {
    now_ = absl::Seconds(1);
    Start({}, static_cast<uint64_t>(k));
    Greet(kA);
    const Instant lost = now_;
    Lose(To(kA));
    while (To(kB) == 0) Pass(std::max(core_->NextWake() - now_, absl::Nanoseconds(1)));
    EXPECT_LE(now_ - lost, absl::Milliseconds(500));
    ++per_50_ms[(now_ - lost) / absl::Milliseconds(50)];
  }
  for (const auto& [slot, devices] : per_50_ms) EXPECT_LT(devices, kDevices / 5) << slot * 50 << " ms";
}

TEST_F(AttachmentTest, LinksAreToldToWhoeverIsAskedNext) {
  Greet(kA);
  Link link;
  link.site = "s-other";
  link.gain_db = -90;
  core_->ReportLinks({link}, now_);
  Collect();
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  ASSERT_EQ(open_[To(kB)].sent.size(), 2u);
  EXPECT_EQ(open_[To(kB)].sent[1].link_report().links(0).site(), "s-other");
}

TEST_F(AttachmentTest, WhoHasMovedGoesHomeEvenIfAnotherOneHasBeenLeftAloneForLonger) {
  ClientOptions options;
  options.other_addresses = {kB, kC};
  Start(options);
  Greet(kA);
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  Lose(To(kB));  // to be left alone for a second at least, others for half of one at most
  Pass(absl::Milliseconds(500));
  Greet(kC);
  Pass(absl::Seconds(3));
  Greet(kA);
  Pass(absl::Minutes(1));
  ASSERT_EQ(Served(), kA);
  Goodbye(kA, 2, kB, /*moved=*/true);
  EXPECT_NE(To(kB), 0u);
  EXPECT_EQ(To(kC), 0u);
}

TEST_F(AttachmentTest, WhoIsSentToOneThatDoesNotAnswerComesBackAtOnce) {
  Greet(kA);
  Goodbye(kA, 5, kC, /*moved=*/true);
  ASSERT_NE(To(kC), 0u);
  Lose(To(kC));
  EXPECT_EQ(To(kA), 0u) << "by chance";
  Pass(absl::Milliseconds(500));
  EXPECT_NE(To(kA) + To(kB), 0u);
  Lose(To(kB));
  Pass(absl::Milliseconds(500));
  EXPECT_NE(To(kA), 0u) << "as if it had not said Goodbye";
}

TEST_F(AttachmentTest, NothingIsToldOfLinksToAGoadThatIsAway) {
  const auto told = [this] {
    Link link;
    link.site = "s-b";
    link.gain_db = -90;
    const size_t before = open_[To(kA)].sent.size();
    Pass(absl::Seconds(1));  // not sooner than others
    core_->ReportLinks({link}, now_);
    Collect();
    return open_[To(kA)].sent.size() - before;
  };
  v1::ServerFrame welcome;
  welcome.mutable_welcome()->add_sites()->set_name("s-a");
  v1::Neighbour* neighbour = welcome.mutable_welcome()->add_neighbours();
  neighbour->set_address(kB);
  neighbour->add_sites("s-b");
  Frame(To(kA), welcome);
  EXPECT_EQ(told(), 1u) << "nothing is known against it";
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Lose(To(kB), absl::Seconds(30));
  Pass(absl::Seconds(2));
  Frame(To(kA), welcome);
  EXPECT_EQ(told(), 0u) << "goad would send us there";
  Pass(absl::Seconds(60));
  EXPECT_EQ(told(), 1u) << "it is time to try it again";
}

TEST_F(AttachmentTest, WhatAGoadThatStaysDeclinesIsNotAskedThereAgain) {
  Greet(kA);
  const std::string id = Ask();
  Draining(To(kA), id);  // remembered from before it was left, and come back to
  ASSERT_EQ(answers_[id].size(), 1u);
  EXPECT_EQ(answers_[id][0].why_local, "DRAINING");
  EXPECT_EQ(open_[To(kA)].sent.size(), 2u) << "Hello and the query";
}

TEST_F(AttachmentTest, WhatTheLastOneDeclinesWhileAllOthersFinishIsAnsweredAtOnce) {
  Greet(kA);
  const std::string runs = Ask();
  Grant(To(kA), runs);
  Goodbye(kA, 0.2);
  Pass(absl::Milliseconds(500));
  Greet(kB);
  const std::string crossed = Ask();
  ASSERT_EQ(AskedAt(crossed), kB);
  Goodbye(kB, 0.2);
  Draining(To(kB), crossed);  // the first one cannot be asked while it finishes what runs
  ASSERT_EQ(answers_[crossed].size(), 1u);
  EXPECT_EQ(answers_[crossed][0].why_local, "DRAINING");
}

TEST_F(AttachmentTest, EachStreamTakesAsManyQueriesAsItsGoadSaid) {
  queries_per_session_ = 2;
  Greet(kA);
  const std::string first = Ask(), second = Ask(), queued = Ask();
  EXPECT_EQ(AskedAt(queued), "");
  Grant(To(kA), first), Grant(To(kA), second);
  Goodbye(kA, 5);
  Pass(absl::Milliseconds(500));
  queries_per_session_ = 1;
  Greet(kB);
  EXPECT_EQ(AskedAt(queued), kB) << "what runs at the other one does not count here";
  const std::string next = Ask();
  EXPECT_EQ(AskedAt(next), "");
  Text(To(kA), first), Complete(To(kA), first);
  EXPECT_EQ(AskedAt(next), "") << "nor does what ends there";
  Grant(To(kB), queued), Text(To(kB), queued), Complete(To(kB), queued);
  EXPECT_EQ(AskedAt(next), kB);
}

TEST_F(AttachmentTest, AQueryIsAskedThreeTimesWhereverThatIs) {
  ClientOptions options;
  options.decision_budget = absl::Seconds(30);
  Start(options);
  Greet(kA);
  const std::string id = Ask();
  for (int asked = 1; asked <= 3; ++asked) {
    ASSERT_EQ(answers_.count(id), 0u) << asked;
    const std::string at = AskedAt(id);
    ASSERT_NE(at, "") << asked;
    Lose(To(at));
    Pass(absl::Seconds(2));
    Greet(To(kA) != 0 ? kA : kB);
  }
  ASSERT_EQ(answers_[id].size(), 1u);
  EXPECT_EQ(answers_[id][0].why_local, "STREAM_LOST");
}

TEST_F(AttachmentTest, WhatOneOnTrialSaysOfOthersIsNotFollowed) {
  Greet(kA);
  Lose(To(kA));
  Pass(absl::Milliseconds(500));
  Greet(kB);
  Pass(absl::Seconds(2));
  problems_.clear();
  Greet(kA);
  Goodbye(kA, 5, kC);
  EXPECT_EQ(To(kA), 0u);
  EXPECT_EQ(problems_, std::vector<std::string>{}) << "nothing is amiss: nobody was asked there";
  Lose(To(kB));
  Pass(absl::Milliseconds(500));
  EXPECT_EQ(To(kC), 0u);
}

TEST_F(AttachmentTest, SitesOfNeighboursMayBeReportedToo) {
  v1::ServerFrame frame;
  frame.mutable_welcome()->add_sites()->set_name("s-a");
  v1::Neighbour* neighbour = frame.mutable_welcome()->add_neighbours();
  neighbour->set_address(kB);
  neighbour->add_sites("s-b");
  Frame(To(kA), frame);
  ASSERT_EQ(core_->sites().size(), 2u);
  EXPECT_EQ(core_->sites()[1].name, "s-b");
  EXPECT_EQ(core_->sites()[1].neighbour, kB);

  v1::ServerFrame many;
  neighbour = many.mutable_sites()->add_neighbours();
  neighbour->set_address(kB);
  for (int k = 0; k < 100'000; ++k) neighbour->add_sites("");
  Frame(To(kA), many);
  EXPECT_EQ(core_->sites().size(), 1088u) << "of a goad and 16 neighbours, 64 sites each";
}

TEST_F(AttachmentTest, OfEverMoreSitesNoMoreAreKeptThanAGoadMayHave) {
  v1::ServerFrame frame;
  v1::Welcome& welcome = *frame.mutable_welcome();
  for (int k = 0; k < 10000; ++k) welcome.add_sites()->set_name("s-" + std::to_string(k));
  Frame(To(kA), frame);
  EXPECT_EQ(core_->sites().size(), 1088u);

  Start({});
  welcome.mutable_sites()->DeleteSubrange(64, welcome.sites_size() - 64);
  for (int n = 0; n < 17; ++n) {
    v1::Neighbour& neighbour = *welcome.add_neighbours();
    neighbour.set_address("n" + std::to_string(n) + ".example:1");
    for (int k = 0; k < 64; ++k) neighbour.add_sites("s-" + std::to_string(n) + "-" + std::to_string(k));
  }
  Frame(To(kA), frame);
  ASSERT_EQ(core_->sites().size(), 1088u);
  EXPECT_EQ(core_->sites().back().name, "s-15-63");
}

TEST_F(AttachmentTest, WhoComesByEverMoreSitesTellsOfThoseThatItHearsNow) {
  const auto report = [&](int site) {
    core_->ReportLinks({{.site = "s-" + std::to_string(site), .uplink_bps = 1e6}}, now_);
    Collect();
  };
  for (int k = 0; k < 64; ++k) report(k);
  report(64);
  EXPECT_EQ(std::count(problems_.begin(), problems_.end(), "LINK_REFUSED"), 1) << "65 at once";
  v1::ServerFrame frame;
  for (int k = 0; k < 66; ++k) frame.mutable_welcome()->add_sites()->set_name("s-" + std::to_string(k));
  Frame(To(kA), frame);
  Pass(absl::Seconds(61));
  report(1);
  report(64);  // in the place of 0
  report(65);  // of another one
  EXPECT_EQ(std::count(problems_.begin(), problems_.end(), "LINK_REFUSED"), 1);
  Pass(absl::Seconds(1));
  std::set<std::string> told;
  for (const v1::DeviceFrame& sent : open_.at(To(kA)).sent) {
    for (const v1::SiteLink& link : sent.link_report().links()) {
      if (link.age_s() < 60) told.insert(link.site());
    }
  }
  for (const char* const site : {"s-1", "s-64", "s-65"}) EXPECT_EQ(told.count(site), 1u) << site;
}

TEST_F(AttachmentTest, EachIsTriedBeforeAnyIsTriedAgain) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    ClientOptions options;
    std::set<std::string> left = {kA};
    for (int k = 0; k < 15; ++k)
      left.insert(options.other_addresses.emplace_back("o" + std::to_string(k) + ".example:1"));
    const Instant start = now_;
    Start(options, seed);
    while (!left.empty()) {
      ASSERT_EQ(open_.size(), 1u);
      ASSERT_EQ(left.erase(open_.begin()->second.address), 1u) << open_.begin()->second.address << ", seed " << seed;
      Lose(open_.begin()->first);
      if (open_.empty()) Pass(absl::Milliseconds(500));
    }
    EXPECT_LE(now_ - start, 16 * absl::Milliseconds(500));
  }
}

}  // namespace
}  // namespace goad::internal
