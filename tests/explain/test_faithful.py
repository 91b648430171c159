"Is a map true? The measures themselves, on maps whose truth is known"
import numpy as np, pandas as pd, pytest, torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from torch import nn
from fundus_fastai.core import DataError, EyeError, ModelError
from fundus_fastai.explain.faithful import (BASELINE_MAPS, difference_to, center_map, curve_area, deletion_curve, edge_map, faithful_table,
    insertion_curve, mask_average_precision, mean_by_patient, measure_maps, overlap, plot_curves, pointing_game, randomization_test,
    uniform_map)

newest = pytest.mark.newest # what goes through a Learner

torch.set_num_threads(1)
y,x = np.mgrid[:40,:50]
disc = np.hypot(y-15, x-33)<6

def test_truth_scores_one_and_its_opposite_nothing():
    a,b = overlap(disc*2., disc),overlap(1.-disc, disc)
    assert [a[k] for k in ('pointing','share','precision')]==[1,1,1]
    assert b['pointing']==b['share']==0 and b['precision']<disc.mean()*1.01

def test_as_many_patients_as_images():
    rows = measure_maps(dict(a=[disc*1.]*4, b=[1.-disc]*4), [disc]*4)
    for short in (lambda: faithful_table(rows, 'xyz'), lambda: faithful_table(rows, list('xxyy'), list('kk')),
                  lambda: difference_to(rows, 'a', 'b', patient=np.arange(2))):
        with pytest.raises(DataError, match='for 4 images'): short()
    assert faithful_table(rows[rows.image<3], pd.Series(list('xxyz'), index=list('abcd'))).n.tolist()==[3,3]
    with pytest.raises(DataError, match='leaves no pixel'): overlap(disc*1., disc, within=disc&~disc)

def test_noise_scores_chance():
    rs = pd.DataFrame([overlap(uniform_map(np.zeros((40,50)), i), disc) for i in range(400)])
    for k in ('pointing','share','precision'): assert abs(rs[k].mean()-disc.mean())<.02

def test_average_precision_is_that_of_sklearn():
    m = np.random.default_rng(0).normal(size=(40,50))+disc
    assert mask_average_precision(m, disc)==pytest.approx(average_precision_score(disc.ravel(), m.ravel()), abs=1e-6)

def test_the_point_may_miss_by_so_much():
    m = np.zeros((40,50)); m[15,33+9] = 1
    assert [pointing_game(m, disc, t) for t in (0,2,3,4,5)]==[0,0,0,1,1]

def test_equal_peaks_count_for_their_part():
    m = np.zeros((40,50)); m[15,33] = m[0,0] = m[39,0] = m[39,49] = 1
    assert pointing_game(m, disc)==.25

@pytest.mark.parametrize('m', [np.zeros((40,50)), -np.ones((40,50))])
def test_a_map_that_says_nothing(m):
    o = overlap(m, disc)
    assert np.isnan(o['pointing']) and np.isnan(o['share']) and o['precision']==pytest.approx(disc.mean())

def test_no_lesion_no_score():
    o = overlap(disc*1., disc&False)
    assert o['area']==0 and all(np.isnan(o[k]) for k in ('pointing','share','precision'))

def test_maps_that_know_nothing():
    im = np.where(disc, 1., .2)
    c = center_map(im); assert np.unravel_index(c.argmax(), c.shape) in [(i,j) for i in (19,20) for j in (24,25)]
    e = edge_map(im); ring = np.abs(np.hypot(y-15, x-33)-6)<1.5
    assert e[ring].mean()>10*e[~ring].mean() and e.shape==c.shape==uniform_map(im).shape==(40,50)

def test_the_middle_falls_off_with_a_quarter_of_each_side():
    c = center_map(np.zeros((41,81)))
    assert c[20,40]==1 and c[20,40+20]==pytest.approx(np.exp(-.5*(20/20.25)**2)) and c[10,40]==pytest.approx(np.exp(-.5*(10/10.25)**2))

class Sees(nn.Module):
    "Probability that follows how much of the disc is bright"
    def __init__(self): super().__init__(); self.register_buffer('m', torch.from_numpy(disc).float()); self.lin = nn.Linear(1, 2)
    def forward(self, x): s = (x[:,0]*self.m).sum((1,2))/self.m.sum()*8-4; return torch.stack([s,-s], 1)

def test_curves_of_a_true_and_a_false_map():
    net,im = Sees(),torch.from_numpy(np.where(disc, 1., 0)).float()[None,None]
    d,i = {},{}
    for k,m in dict(true=disc*1., noise=uniform_map(im[0,0]), false=1.-disc).items():
        dc,ic = (f(net, im, m, target=0, steps=50, fill='zero') for f in (deletion_curve,insertion_curve))
        assert len(dc[0])==51 and dc[1][0]==pytest.approx(ic[1][-1]) and dc[1][-1]==pytest.approx(ic[1][0])
        d[k],i[k] = curve_area(dc),curve_area(ic)
    assert d['true']<.1<.4<d['noise']<.6<.9<d['false'] and i['true']>.9>.6>i['noise']>.4>.1>i['false']

def test_ties_have_no_favorite_corner():
    net,im = Sees(),torch.from_numpy(np.where(disc, 1., 0)).float()[None,None]
    areas = [curve_area(deletion_curve(net, im, np.zeros((40,50)), target=0, fill='zero', seed=s)) for s in range(8)]
    assert all(.42<a<.58 for a in areas) and len(set(areas))>1

def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1,6,5,2), nn.ReLU(), nn.Conv2d(6,6,3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6,2))

def test_a_broken_net_draws_another_map_and_edges_do_not():
    net,im = small().eval(),torch.randn(2,1,40,50)
    before = {k:v.clone() for k,v in net.state_dict().items()}
    state = torch.get_rng_state()
    fell = randomization_test(net, im, 'input_gradient', target=0, keep=True)
    stays = randomization_test(net, im, lambda n, x, k: np.stack([edge_map(o) for o in x]), target=0)
    assert fell.signed.iloc[0]==1 and fell.signed.iloc[1:].abs().max()<.9 and (stays.signed==1).all()
    assert fell.layers.tolist()==[0,1,2,3] and len(fell.attrs['maps'])==4 and fell.stage.iloc[1]=='6'
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) and torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(fell, randomization_test(net, im, 'input_gradient', target=0))
    assert np.allclose(np.mean(fell.attrs['signed'], 1), fell.signed) and np.shape(fell.attrs['signed'])==(4,2)

def test_likeness_is_the_mean_of_spearman_s_of_each_image():
    kept = []
    def noise(n, x, k): kept.append(np.random.default_rng(len(kept)//2).normal(size=(3,9,9))*[[[1]],[[2]],[[3]]]+2.*len(kept)); return kept[-1]
    df = randomization_test(small(), torch.zeros(3,1,9,9), noise, target=0, stages=3)
    def want(f, g): return np.mean([spearmanr(f(a).ravel(), f(b).ravel()).statistic for a,b in zip(kept[0], g)])
    assert df.signed.tolist()[1:]==pytest.approx([want(np.asarray, g) for g in kept[1:]]) and df.signed[1]==pytest.approx(1)
    assert df.absolute.tolist()[1:]==pytest.approx([want(np.abs, g) for g in kept[1:]]) and df.absolute[1]<.9

class Gain(nn.Module):
    "Has a weight that cannot begin anew, and holds what can, of which it is none itself"
    def __init__(self): super().__init__(); self.by,self.fc = nn.Parameter(torch.ones(1)),nn.Linear(6, 6)
    def forward(self, x): return self.fc(x)*self.by

class Holds(nn.Sequential):
    def reset_parameters(self): pytest.fail('it has no weights of its own')

def test_layers_that_begin_anew_are_those_with_weights_of_their_own():
    net = nn.Sequential(nn.Conv2d(1,6,3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Gain(), Holds(nn.Linear(6,2)))
    df = randomization_test(net, torch.randn(1,1,12,12), 'input_gradient', target=0)
    assert df.stage.tolist()==['trained','4.0','3.fc','0'] and df.layers.tolist()==[0,1,2,3]

def test_intervals_hold_the_truth():
    "Patients differ: an interval by image would be too narrow"
    rng,hits,narrow = np.random.default_rng(0),0,0
    for i in range(60):
        v = (rng.normal(.5, .2, 40)[:,None]+rng.normal(0, .05, (40,5))).ravel()
        e = mean_by_patient(v, np.arange(200)//5, n_boot=300, seed=i); f = mean_by_patient(v, np.arange(200), n_boot=300, seed=i)
        hits += e.low<.5<e.high; narrow += f.low<.5<f.high
    assert hits>=52 and narrow<52

def test_table_and_difference():
    rng = np.random.default_rng(0)
    masks = [np.hypot(y-rng.integers(8, 32), x-rng.integers(8, 42))<5 for _ in range(30)]; masks[3] = disc&False
    maps = dict(good=[m+rng.normal(0, .3, m.shape) for m in masks], bad=[rng.normal(size=m.shape) for m in masks])
    rows,who = measure_maps(maps, masks, [m*1. for m in masks]),np.arange(30)//2
    t = faithful_table(rows, who, n_boot=200)
    assert list(t.index)==['good','bad',*BASELINE_MAPS] and (t.n==29).all()
    assert t.loc['good','precision'].low>t.loc['bad','precision'].high
    d = difference_to(rows, 'good', 'center', patient=who, measure='precision'); assert d.low>0
    assert d.value==pytest.approx(-difference_to(rows, 'center', 'good', patient=who, measure='precision').value)
    assert difference_to(rows, 'bad', 'uniform', patient=who, measure='precision').low<0<difference_to(rows, 'bad', 'uniform', patient=who, measure='precision').high
    per = faithful_table(rows, who, np.where(np.arange(30)<10, 'a', 'b'), n_boot=20)
    assert per.loc[('a','good'),'n']==9 and per.loc[('b','good'),'n']==20

def test_bad_input():
    with pytest.raises(DataError, match='one size'): overlap(np.zeros((3,4)), disc)
    with pytest.raises(DataError, match='NaN'): overlap(np.full((40,50), np.nan), disc)
    with pytest.raises(DataError, match='1 maps of a for 2 masks'): measure_maps(dict(a=[disc*1.]), [disc,disc])
    with pytest.raises(EyeError, match='did you mean good'): difference_to(measure_maps(dict(good=[disc*1.]), [disc]), 'god', 'good', patient=[1])
    with pytest.raises(DataError, match='one image and its map'): deletion_curve(Sees(), torch.zeros(2,1,40,50), disc, target=0)
    n,im,nan = small(),torch.zeros(1,1,40,50),np.where(disc, 1., np.nan)
    for how,said in ((dict(steps=0),'steps'), (dict(bs=0),'bs'), (dict(target=[0,1]),'one class'), (dict(target=None),'one class'), (dict(map=nan),'NaN')):
        with pytest.raises(DataError, match=said): deletion_curve(n, im, **dict(map=disc, target=0)|how)
    for how,said in ((dict(stages=0),'stages'), (dict(target=None),'one class'), (dict(within=disc),'shape'), (dict(within=[disc,disc]),'shape')):
        with pytest.raises(DataError, match=said): randomization_test(n, im, 'input_gradient', **dict(target=0)|how)
    with pytest.raises(ModelError, match='begin anew'): randomization_test(nn.Flatten(), torch.zeros(1,1,4,4), 'rise', target=0)
    assert mean_by_patient([.1,.3], ['a','a']).method=='no interval: one patient'

def test_few_patients_have_no_interval():
    e = mean_by_patient([.1,.3,.5,.6], list('abcd')); assert e.value==pytest.approx(.375) and np.isnan(e.low) and '4 patients' in e.method
    assert mean_by_patient([.1,.3,.5,.6,np.nan], list('abcde')).method=='no interval: 4 patients'
    assert mean_by_patient([.1,.3,.5,.6,.2], list('abcde')).low<.34<mean_by_patient([.1,.3,.5,.6,.2], list('abcde')).high

# --- through a learner: its own answer, its own normalization

def learner(answer, k):
    from types import SimpleNamespace
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.vision.all import Normalize
    x = [(torch.randn(1,40,50),torch.tensor(0)) for _ in range(4)]
    dls = DataLoaders.from_dsets(x, x, bs=2, after_batch=[Normalize(torch.full((1,1,1,1), .8), torch.full((1,1,1,1), .1), axes=None)])
    dls.output = answer
    net = small(); net[-1] = nn.Linear(6, k)
    return Learner(dls, net.eval(), loss_func=answer.loss())

def test_a_map_may_be_a_tensor_as_evidence_gives_it():
    m = torch.rand(40,50)
    a,b = (deletion_curve(small(), torch.ones(1,1,40,50), o, target=0, steps=3) for o in (m,m.numpy()))
    assert np.array_equal(a[1], b[1])

@pytest.mark.parametrize('answers, seen, word', [([.2,.9],(-.03,1.03),'probability'), ([61.,55.],(54,62),'answer'), ([1.4,.6],(0,2),'answer')])
def test_the_curve_of_an_age_is_in_the_picture(answers, seen, word):
    ax = plot_curves(dict(a=(np.array([0.,1.]), np.array(answers))))
    low,high = ax.get_ylim()
    assert seen[0]<=low<min(answers) and max(answers)<high<=seen[1] and ax.get_ylabel()==word

@newest
def test_curves_follow_the_answer_of_the_learner():
    from fundus_fastai.vision.outputs import ClassOutput, LabelsOutput, NumberOutput
    im,m = torch.randn(1,1,40,50)*3,disc*1.
    for answer,read in ((ClassOutput(['a','b']), lambda y: y.softmax(1)[:,0]), (LabelsOutput(['a','b']), lambda y: y.sigmoid()[:,0]),
                        (NumberOutput(['a'], 60, 10), lambda y: 60+10*y[:,0])):
        learn = learner(answer, answer.n_out)
        with torch.no_grad(): want = float(read(learn.model(im))[0])
        d,i = (f(learn, im, m, target='a', steps=4) for f in (deletion_curve,insertion_curve))
        assert d[1][0]==pytest.approx(want, abs=1e-4) and i[1][-1]==pytest.approx(want, abs=1e-4), answer.kind

@newest
def test_the_broken_twin_keeps_the_normalization():
    from fundus_fastai.vision.outputs import ClassOutput
    from fundus_fastai.explain.attribution import evidence
    learn,im = learner(ClassOutput(['a','b']), 2),torch.randn(2,1,40,50)
    df = randomization_test(learn, im, 'hue_gradient', target='b', stages=2, keep=True)
    assert np.allclose(df.attrs['maps'][0], evidence(learn, im, 'hue_gradient', target='b').map[0,0], rtol=1e-3, atol=1e-9)
    assert not np.allclose(df.attrs['maps'][0], evidence(learn.model, im, 'hue_gradient', target=1).map[0,0], rtol=.5, atol=0)

def test_only_the_field_counts():
    "A map that knows the field and nothing else is worth what chance is, and breaking a net is judged there too"
    y,x = np.mgrid[:48,:48]
    field,lesion = np.hypot(y-24, x-24)<20,np.hypot(y-24, x-30)<4
    noise = [np.random.default_rng(i).random((48,48))*field for i in range(60)]
    n = len(noise)
    plain,fair = (measure_maps(dict(noise=noise), [lesion]*n, within=w).mean(numeric_only=True) for w in (None,[field]*n))
    assert fair.area==pytest.approx((lesion&field).sum()/field.sum())
    assert plain.share/plain.area>1.5 and fair.share/fair.area==pytest.approx(1, abs=.05)
    assert plain.precision>1.5*plain.area and fair.precision==pytest.approx(fair.area, rel=.25)
    assert overlap(field-1.+.5*lesion, lesion, within=field)['pointing']==1 # the best lies in the field, though below 0 elsewhere
    assert overlap(np.where(field, lesion, 9.), lesion, within=field)['pointing']==1 # whatever a map says of the frame
    assert overlap(np.hypot(y-24, x-12)<4, lesion, within=field)['pointing']==0
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    def half_blank(net, x, k): return np.stack([np.random.default_rng(int(1e6*net[0].weight[0,0,0,0].abs())).random((48,48))*field])
    x = torch.rand(1, 1, 48, 48)
    a,b = (randomization_test(net, x, half_blank, target=0, within=w).signed.iloc[-1] for w in (None,field[None]))
    assert a>.3 and abs(b)<.1

def test_truths_and_pictures_of_any_size_come_to_the_size_of_the_maps():
    def twice(m): return np.kron(m, np.ones((2,2)))
    m,part = disc+.01*y,x>10
    a = measure_maps(dict(m=[m]), [twice(disc)>0], [twice(disc)], within=[twice(part)>0])
    b = measure_maps(dict(m=[m]), [disc], [disc*1.], within=[part])
    k = ['pointing','share','precision','area']
    assert a.method.tolist()==b.method.tolist()==['m',*BASELINE_MAPS]
    for o in ('m','center'): assert np.allclose(a[a.method==o][k].astype(float), b[b.method==o][k].astype(float), atol=.02)

@pytest.mark.parametrize('curves', [[], {}, None, 'x', {'a':5}, {'a':([],[])}, {'a':[]}, {'a':[([0,1],[1,0]),([],[])]}])
def test_curves_are_a_dict(curves):
    with pytest.raises(DataError, match='deletion_curve'): plot_curves(curves)

def test_a_measure_that_is_none():
    rows = measure_maps(dict(a=[disc*1.,1.-disc], b=[disc*1.,disc*1.]), [disc,disc])
    with pytest.raises(EyeError, match="'shre'; did you mean share"): difference_to(rows, 'a', 'b', patient=[1,2], measure='shre')
    with pytest.raises(EyeError, match='unknown measure'): difference_to(rows, 'a', 'b', patient=[1,2], measure='method')
    with pytest.raises(EyeError, match="'shre'; did you mean share"): faithful_table(rows, [1,2], measures=('shre',))

def test_near_is_as_near_as_a_ruler_says():
    "A point 7.07 pixels away had counted as 7"
    m,t = np.zeros((20,20)),np.zeros((20,20), bool)
    m[5,5] = t[10,10] = 1
    assert pointing_game(m, t, 7)==0 and pointing_game(m, t, 8)==1
