"Outputs: weights of rare labels, odd configs"
import matplotlib.pyplot as plt, numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import Interpretation, MixUp
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
