"Outputs: weights of rare labels, odd configs"
import matplotlib.pyplot as plt, numpy as np, pandas as pd, pytest, torch, torch.nn.functional as F
from fastai.vision.all import Interpretation, MixUp
from sklearn.utils.class_weight import compute_class_weight
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.tasks import get_task
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput, output_from, label_weights
from fundus_fastai.core import DataError, ModelError
from nets import labeled, tiny

def asked(task): return eye_learner(get_task(task).dls(labeled(task), size=32, bs=3, workers=0), tiny, None)

@pytest.mark.parametrize('task', ['disease','diseases','age','sex_age','dr_ordered'])
def test_fastai_may_ask_for_the_loss_of_each_image(task):
    "Their mean is the loss, and the worst images can be found"
    learn = asked(task)
    with learn.no_bar(), learn.no_logging():
        each,whole = learn.get_preds(with_loss=True)[2],learn.validate()[0]
        worst,_ = Interpretation.from_learner(learn).top_losses(2)
    assert each.shape==(4,) and float(each.mean())==pytest.approx(whole, rel=1e-4)
    assert worst.tolist()==pytest.approx(sorted(each.tolist())[:1:-1], rel=1e-4) and learn.loss_func.reduction=='mean'

def test_a_pair_is_told_by_the_name_of_its_class():
    "By `predict`, and by what is shown of a batch"
    learn = asked('sex_age')
    with learn.no_bar(): (name,age),_,p = learn.predict(labeled('sex_age').path[0])
    assert name==learn.output.names[int(p[:2].argmax())] and age==pytest.approx(float(p[2]), abs=.06)
    assert [o[1] for o in learn.dls.valid.decode_batch(learn.dls.valid.one_batch())]==[('male',80.), ('female',85.), ('male',90.)]

def test_mixed_pairs_of_class_and_number_are_mixed_as_losses():
    "A class of .6 is no class: the losses of both are weighed instead"
    learn = asked('sex_age')
    mix,y,other = MixUp(.4),torch.tensor([[0,40.],[1,60.]]),torch.tensor([[1,60.],[0,40.]])
    mix.learn = learn
    mix.before_train()
    z,learn.training = torch.randn(2, 3),True
    mix.yb1,mix.lam = (other,),torch.tensor([.25,.5])
    def loss(i, y): return mix.old_lf(z[i:i+1], y[i:i+1])
    want = sum(float(torch.lerp(loss(i, other), loss(i, y), mix.lam[i])) for i in range(2))/2
    assert float(learn.loss_func(z, y))==pytest.approx(want, rel=1e-5)
    mix.after_train()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=MixUp(.4))

def test_weight_of_an_image_is_that_of_its_rarest_label():
    y = np.zeros((100,3), int); y[:60,0] = 1; y[:5,1] = 1; y[60:80,2] = 1 # 20 have none
    w = label_weights(y)
    assert w[0]==pytest.approx(12*w[10]) and w[70]==pytest.approx(w[90]) and w.mean()==pytest.approx(1)

def test_losses_against_the_few_by_their_formulas():
    "Classes weigh as scikit-learn's 'balanced', one that is not there as 1; positives of a label by the negatives for each, 20 at most"
    df = pd.DataFrame(dict(label=list('aaaaaabbc'), x=[1]+[0]*8, y=[1]*6+[0]*3))
    z,y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)),torch.tensor([1]*6+[0]*2+[3])
    out = ClassOutput(['b','a','d','c'])
    want = dict(zip('abc', compute_class_weight('balanced', classes=np.array(list('abc')), y=df.label)))
    weight = torch.tensor([want.get(o, 1.) for o in out.names], dtype=torch.float32)
    assert float(out.loss(df, 'loss')(z, y))==pytest.approx(float(F.cross_entropy(z, y, weight=weight)))
    ce = F.cross_entropy(z, y, reduction='none')
    assert float(out.loss(df, 'focal')(z, y))==pytest.approx(float(((1-(-ce).exp())**2*ce).mean()), rel=1e-5)
    assert float(out.loss(df)(z, y))==pytest.approx(float(ce.mean())) and out.weights(df).tolist()==pytest.approx([want[o] for o in df.label])
    df = pd.concat([df, df[1:]]*3)
    t,z = torch.tensor(df[['x','y']].to_numpy(float)),torch.randn(len(df), 2, generator=torch.Generator().manual_seed(1))
    pos = torch.tensor([min(20, (1-df[k]).sum()/df[k].sum()) for k in 'xy'])
    assert len(df)==51 and float(LabelsOutput(['x','y']).loss(df, 'loss')(z, t))==pytest.approx(float(F.binary_cross_entropy_with_logits(z.double(), t, pos_weight=pos)), rel=1e-5)
    rare = df.assign(x=[1]+[0]*50)
    pos[0] = 20 # not 50
    t[:,0] = torch.tensor(rare.x.to_numpy(float))
    assert float(LabelsOutput(['x','y']).loss(rare, 'loss')(z, t))==pytest.approx(float(F.binary_cross_entropy_with_logits(z.double(), t, pos_weight=pos)), rel=1e-5)

def test_each_way_to_balance_labels_has_its_loss():
    df,out = pd.DataFrame(dict(x=[1]*99+[0])),LabelsOutput(['x'])
    z,t = torch.linspace(-3, 3, 100)[:,None],torch.tensor(df[['x']].to_numpy(float), dtype=torch.float32)
    def told(**kw): return float(F.binary_cross_entropy_with_logits(z, t, **kw))
    assert float(out.loss(df)(z, t))==pytest.approx(told())
    assert float(out.loss(df, 'loss')(z, t))==pytest.approx(told(pos_weight=torch.tensor(1/20))) # not 1/99
    assert [out.loss(df, o).kind for o in ('none','sample','loss','focal','asymmetric')]==['plain']*3+['focal','asymmetric']
    p = torch.where(t>0, z.sigmoid(), 1-z.sigmoid())
    assert float(out.loss(df, 'focal')(z, t))==pytest.approx(float(((1-p)**2*-p.log()).mean()), rel=1e-5)

def test_numbers_are_drawn_by_how_rare_they_are():
    "In ten bands of the range, or each by itself where there are ten or fewer; the scale is of training alone"
    ages = pd.DataFrame(dict(label=[20.]*30+[*np.linspace(21, 29.9, 20)]+[100.]*2, split=['train']*50+['test']*2))
    w = NumberOutput(['age']).weights(ages)
    band = ((ages.label-20)//8).clip(upper=9)
    want = {b:52/(band.nunique()*(band==b).sum()) for b in band.unique()}
    assert w==pytest.approx([want[b] for b in band]) and w[-1]>w[0]
    few = pd.DataFrame(dict(label=[0,0,0,1,1,2]))
    assert NumberOutput(['grade']).weights(few)==pytest.approx([2/3]*3+[1]*2+[2])
    near = pd.DataFrame(dict(label=[0,.1,.1,5])) # no bands: 0 and .1 are two
    assert NumberOutput(['x']).weights(near)==pytest.approx([4/3,2/3,2/3,4/3])
    o = NumberOutput.learn(ages)
    assert (o.center,o.spread)==pytest.approx((ages.label[:50].mean(), ages.label[:50].std(ddof=0)))
    assert NumberOutput.learn(few.assign(label=3)).spread==1

def test_labels_that_the_net_does_not_know_are_named():
    df = pd.DataFrame(dict(label=['a','b','x']))
    ClassOutput(['a','b','x','y']).check(df)
    with pytest.raises(DataError, match=r'does not know: x \(it knows a, b\)'): ClassOutput(['a','b']).check(df)

@pytest.mark.parametrize('bad', [dict(kind='x'), dict(names=[]), dict(names='ab'), dict(names=['a','a']), dict(spread=0), dict(spread='1'),
                                 dict(center=None), dict(center=1e12), dict(names=[1,2])])
def test_a_config_with_an_odd_answer(bad):
    good = dict(kind='number', names=['age'], center=60., spread=10.)
    assert output_from(good).names==['age']
    with pytest.raises(ModelError): output_from({**good, **bad})

def test_gaps_and_words_in_a_label_are_named_and_labels_left_out_are_not_asked():
    df,o = pd.DataFrame(dict(N=[1,0,np.nan], D=[0,1,1], O=[0,0,1], C=['no','yes','no'])),LabelsOutput(['N','D','O'])
    with pytest.raises(DataError, match='1 in N'): o.check(df)
    with pytest.raises(DataError, match="'C' is to hold 0 and 1, and holds no, yes"): LabelsOutput(['D','C']).check(df)
    df.attrs['labels'] = ('D','O')
    for names in ('NDO','CDO','DOX'):
        o = LabelsOutput([*names])
        o.check(df)
        assert o.truth(df).columns.tolist()==['target_D','target_O'] and o.asked(df)==['D','O']

def test_tables_that_hold_nothing_to_learn_from_are_told():
    df = pd.DataFrame(dict(path=['a','b'], sex=['f','m']))
    for make,why in ((LabelsOutput,"LabelsOutput\\(\\['A', 'B'\\]\\)"), (NumberOutput,"no column 'label' .* has path, sex"), (BothOutput,"no column 'label'"),
                     (ClassOutput,"no column 'label'")):
        with pytest.raises(DataError, match=why): make.learn(df)
    with pytest.raises(DataError, match="no column 'age'"): BothOutput.learn(df.assign(label=df.sex))
    with pytest.raises(DataError, match="is to be a number, and holds 'f', 'm'"): NumberOutput.learn(df.assign(label=df.sex))

@pytest.mark.parametrize('task,truth', [('age', {'80.0','85.0','90.0','95.0'}), ('sex_age', {'male, 80.0','female, 85.0','male, 90.0','female, 95.0'}),
                                        ('disease', {'A','B'}), ('diseases', {'','drusen','haze','drusen;haze'})])
def test_results_of_every_kind_are_shown(task, truth):
    "A number and a pair too, for which fastai's own has no way"
    learn = asked(task)
    with learn.no_bar(): learn.show_results(max_n=3)
    titles = [o.get_title().split('\n') for o in plt.gcf().axes if o.get_title()]
    plt.close('all')
    assert titles and {o[0] for o in titles}<=truth
    if 'age' in task: assert all(float(o[1].split()[-1])<100 for o in titles)
