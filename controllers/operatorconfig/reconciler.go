package operatorconfig

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// The reasons of events on the ConfigMap.
const (
	eventPaused  = "Paused"               // no pod is captured or restored, and no Checkpoint expires; the event says who says so
	eventResumed = "Resumed"              // pods are captured and restored again, and Checkpoints expire
	eventInvalid = "InvalidConfiguration" // the event says which key cannot be understood, and what it may be; what held before goes on to hold
)

var (
	isPaused = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_operator_paused", Help: "1 while the whole operator is paused, else 0.",
	})
	isInvalid = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "checkpoint_operator_config_invalid", Help: "1 while the ConfigMap checkpoint-operator has something that cannot be understood, else 0.",
	})
)

func init() { metrics.Registry.MustRegister(isPaused, isInvalid) }

// Reconciler says aloud what the ConfigMap of the operator says, when that changes.
type Reconciler struct {
	Source   *Source
	Client   client.Client
	Recorder events.EventRecorder

	paused bool   // as far as it was told
	wrong  string // what was told of it
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager, source *Source) error {
	r := &Reconciler{Source: source, Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager")}
	return ctrl.NewControllerManagedBy(manager).Named("operatorconfig").
		For(&corev1.ConfigMap{}, builder.WithPredicates(source.Predicate())).Complete(r)
}

// Predicate is true of the ConfigMap of the operator alone, which others watch as well.
func (s *Source) Predicate() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetName() == operator.ConfigMap && o.GetNamespace() == s.Namespace
	})
}

// Reconcile tells of the ConfigMap by events and metrics.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	configMap := &corev1.ConfigMap{}
	if err := r.Client.Get(ctx, request.NamespacedName, configMap); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	configMap.Namespace, configMap.Name = request.Namespace, request.Name // also of one that is gone
	c := r.Source.Config(ctx)
	_, err := operator.Parse(configMap.Data, &c)
	wrong := ""
	isInvalid.Set(0)
	if err != nil {
		wrong = err.Error()
		isInvalid.Set(1)
	}
	if wrong != "" && wrong != r.wrong {
		ctrl.LoggerFrom(ctx).Error(err, "what cannot be understood changes nothing", "configMap", operator.ConfigMap)
		r.tell(configMap, corev1.EventTypeWarning, eventInvalid, wrong+"; what held before goes on to hold")
	}
	r.wrong = wrong
	switch {
	case c.Paused != "" && !r.paused:
		isPaused.Set(1)
		r.tell(configMap, corev1.EventTypeWarning, eventPaused, c.Paused+": no pod is captured or restored, and no Checkpoint expires")
	case c.Paused == "" && r.paused:
		isPaused.Set(0)
		r.tell(configMap, corev1.EventTypeNormal, eventResumed, "pods are captured and restored again, and Checkpoints expire")
	}
	r.paused = c.Paused != ""
	return ctrl.Result{}, nil
}

func (r *Reconciler) tell(configMap *corev1.ConfigMap, kind, reason, text string) {
	r.Recorder.Eventf(configMap, nil, kind, reason, "Configure", "%s", v1alpha1.EventNote(text))
}
