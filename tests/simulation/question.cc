// A question as goad::Runtime asks it: the pure flow between a scripted local model and the simulated goad.
#include "absl/strings/str_cat.h"
#include "client_sdk/runtime/answer_flow.h"
#include "tests/simulation/world.h"

namespace goad::server {
namespace {

constexpr const char* kLocalToken = "l";

RuntimeOptions OptionsOf(uint64_t draw) {
  RuntimeOptions options;
  options.hedge_tokens = draw % 3 == 0 ? 0 : draw % 3 == 1 ? 2 : 1000;
  options.edge_hold_tokens = draw / 3 % 3 == 0 ? 2 : 0;
  if (draw / 9 % 2 == 0) options.unknown_uncertainty = 1;
  return options;
}
Route RouteOf(uint64_t draw) { return draw % 10 == 0 ? Route::kLocal : draw % 10 == 1 ? Route::kEdge : Route::kAuto; }

}  // namespace

struct World::Question : std::enable_shared_from_this<World::Question> {
  Question(World* in, SimDevice* of, goad::Query asked)
      : world(in),
        device(of),
        client(&of->core()),
        stage(&in->stage_),
        query(std::move(asked)),
        route(RouteOf(in->stage_.random())),
        whole(in->stage_.Chance(0.3)),
        flow(OptionsOf(in->stage_.random()), route, whole),
        tokens(static_cast<int>(in->stage_.random() % 8)),
        tells(in->stage_.Chance(0.8)),
        breaks(in->stage_.Chance(0.2)) {}

  void Start() {
    flow.Start();
    Apply();
    if (stage->Chance(0.2)) {
      stage->At(stage->Between(0, 20), [self = shared_from_this()] {
        self->flow.OnLocalSlow();
        self->Apply();
      });
    }
    if (stage->Chance(stage->faults.cancel)) {
      stage->At(stage->Between(0, 60), [self = shared_from_this()] {
        self->flow.OnCancel();
        self->Apply();
      });
    }
  }

  void Apply() {
    for (const internal::FlowAction& action : flow.TakeActions()) {
      if (ends > 0) stage->Broken("a question goes on after its end");
      if (std::holds_alternative<internal::StartLocal>(action)) {
        if (local_runs) stage->Broken("two runs of one local model");
        local_runs = true;
        Later(++run, 0);
      } else if (std::holds_alternative<internal::StopLocal>(action)) {
        if (!local_runs) stage->Broken("a local model was stopped that did not run");
        local_runs = false;
      } else if (const auto* ask = std::get_if<internal::AskEdge>(&action)) {
        Ask(ask->uncertainty);
      } else if (std::holds_alternative<internal::CancelEdge>(action)) {
        client->Cancel(id, stage->instant());
        edge_runs = false;
        stage->At(absl::ZeroDuration(), [self = shared_from_this()] { self->device->Apply(); });
      } else if (const auto* show = std::get_if<internal::Show>(&action)) {
        shown += show->piece.text;
      } else {
        ++ends;
        End();
      }
    }
  }

  void Later(int of_run, int step) {
    stage->At(stage->Between(0, 20), [self = shared_from_this(), of_run, step] { self->LocalStep(of_run, step); });
  }
  void LocalStep(int of_run, int step) {
    if (of_run != run || !local_runs) return;
    if (step < tokens) {
      AnswerPiece piece;
      piece.text = kLocalToken;
      flow.OnLocalPiece(std::move(piece));
      if (step == 0 && tells && local_runs) flow.OnUncertainty(*query.uncertainty);
      Later(of_run, step + 1);
    } else {
      local_runs = false;
      LocalEnd end;
      if (breaks) end.status = absl::UnavailableError("scripted");
      flow.OnLocalEnd(end);
    }
    Apply();
    if (flow.waits_for_goad() && !client->greeted()) flow.OnEdgeAway();
    Apply();
  }

  void Ask(std::optional<double> uncertainty) {
    goad::Query asked = query;
    asked.uncertainty = uncertainty;
    asked.must_offload = !uncertainty;
    if (edge_runs) stage->Broken("asked twice at once");
    edge_runs = true;
    AskCallbacks callbacks;
    const auto on = [this](auto what) {
      return [self = shared_from_this(), what](const auto& value) {
        what(self->flow, value);
        self->Apply();
      };
    };
    callbacks.on_decision = on([](auto& to, const Decision& decision) { to.OnDecision(decision); });
    callbacks.on_piece = on([](auto& to, const AnswerPiece& piece) { to.OnEdgePiece(piece); });
    callbacks.on_done = [self = shared_from_this()](const Answer& answer) {
      self->edge_runs = false;
      self->flow.OnEdgeEnd(answer);
      self->Apply();
    };
    id = client->Ask(std::move(asked), std::move(callbacks), {}, stage->instant());
    // The core's own callbacks may be what asks: its actions are taken up afterwards.
    stage->At(absl::ZeroDuration(), [self = shared_from_this()] { self->device->Apply(); });
  }

  void End() {
    const Answer& answer = flow.answer();
    const bool edge_shown = flow.source() == Answer::Source::kEdge;
    if (local_runs) stage->Broken("a local model runs on");
    if (edge_runs && answer.why_local != "CANCELLED") stage->Broken("the edge runs on");
    if (answer.source == Answer::Source::kLocal && shown != std::string(static_cast<size_t>(tokens), *kLocalToken))
      stage->Broken("a local answer is not whole: " + shown);
    if (answer.source == Answer::Source::kEdge && shown != answer.text)
      stage->Broken("an edge answer was shown as another: " + shown);
    if (answer.source == Answer::Source::kNone && answer.why_local != "CANCELLED" && !edge_shown && !breaks &&
        route != Route::kEdge)
      stage->Broken(absl::StrCat("no answer, and a whole local one was there: ", answer.why_local));
    world->CountAnswer(answer);
  }

  World* const world;
  SimDevice* const device;
  internal::ClientCore* const client;
  Stage* const stage;
  const goad::Query query;
  const Route route;
  const bool whole;
  internal::AnswerFlow flow;
  const int tokens;  // of the local answer
  const bool tells, breaks;
  bool local_runs = false, edge_runs = false;
  int run = 0, ends = 0;
  std::string id, shown;
};

void World::AskBesideLocalModel(SimDevice& device, goad::Query query) {
  ++asked_;
  std::make_shared<Question>(this, &device, std::move(query))->Start();
}

}  // namespace goad::server
