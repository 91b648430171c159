"Steps between a table and a learner"
import shutil, time
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fundus_fastai.core import EyeError
from fundus_fastai.data.splits import split_patients
from fundus_fastai.options import TrainOptions
from fundus_fastai.phantom.oct import write_kermany
from fundus_fastai.vision import steps
from fundus_fastai.vision.steps import load_frame, make_learner, refit, same_people, split_frame
from made import eyes

def test_the_same_file_under_two_patients_ties_them(tmp_path, capsys):
    "Byte-identical files keep their patients on one side; dealt without a look at the files they part on some seeds"
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 255, (8,8), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    shutil.copy(tmp_path/'3.png', tmp_path/'9.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{i}.png') for i in range(20)], patient=[f'p{i:02}' for i in range(20)],
                           eye=None, label=['a','b']*10))
    df.attrs['root'] = str(tmp_path)
    def parted(f): return [seed for seed in range(8) if f(df, seed=seed).set_index('patient').split[['p03','p09']].nunique()>1]
    assert parted(split_patients) and not parted(split_frame)
    assert 'the same: 1; their 2 patients are kept' in capsys.readouterr().err
    for o in (df[df.patient!='p09'], df.assign(patient=df.patient.replace('p09', 'p03'))): split_frame(o) # one person's are no matter
    assert 'the same' not in capsys.readouterr().err

def test_a_published_split_of_train_and_test_can_be_learned(table):
    two = table.assign(split=table.split.replace('valid', 'train'))
    s = split_frame(two, 'published')
    assert set(s.split)=={'train','valid','test'} and (s.split=='test').equals(two.split=='test') and s.attrs['root']==table.attrs['root']

def test_patients_who_share_a_picture_are_held_out_together(tmp_path, monkeypatch):
    "Also by way of a third; their own names stay in what is written"
    bits = dict(a=b'1', b=b'1', c=b'22', d=b'333')
    rows = [(k, bits[k]) for k in 'abcd']+[('b',b'4444'), ('c',b'4444'), ('d',b'55555')]
    for i,(_,o) in enumerate(rows): (tmp_path/f'{i}.png').write_bytes(o)
    df = pd.DataFrame([(str(tmp_path/f'{i}.png'), k) for i,(k,_) in enumerate(rows)], columns=['path','patient'])
    assert same_people(df).tolist()==['a','a','a','d','a','a','d']
    assert df.patient.tolist()==[k for k,_ in rows]
    seen = []
    def crossed(x, asked, who, k): seen.append(list(who)); raise InterruptedError
    monkeypatch.setattr('fundus_fastai.vision.steps.cross_fitted', crossed)
    side = lambda o: SimpleNamespace(items=o)
    learn = SimpleNamespace(dls=SimpleNamespace(train_ds=side(df[:4]), valid_ds=side(df[4:])), probed=(0,0), output=SimpleNamespace(names='xy'))
    with pytest.raises(InterruptedError): refit(learn, df, tmp_path)
    assert seen==[['a','a','a','d','a','a','d']]

# --- decode once, by itself

@pytest.fixture(scope='module')
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp('scans')/'oct'
    write_kermany(root, patients=16, seed=1, size=(96,96))
    return split_frame(load_frame('oct', root))

TINY = dict(weights='none', size=32, bs=8, workers=0, epochs=1, freeze_epochs=0)

@pytest.mark.parametrize('wait,net,free,says', [(100,200,1e12,True), (59,10,1e12,False), (100,1000,1e12,False), (100,200,1e4,False)])
def test_worth_caching(monkeypatch, capsys, table, wait, net, free, says):
    "A minute, and a tenth of the training, and room"
    monkeypatch.setattr(steps, 'training_seconds', lambda *args: (wait,net))
    monkeypatch.setattr(steps, 'free_bytes', lambda path: free)
    learn = make_learner(table, 'oct', TrainOptions('test_resnet', **TINY, cache=False))
    assert steps.worth_caching(learn, TrainOptions('test_resnet', **TINY)) is says
    assert ('decoded once' in capsys.readouterr().err)==says
    monkeypatch.setenv('FUNDUS_CACHE', '0')
    assert steps.worth_caching(learn, TrainOptions('test_resnet', **TINY)) is False

def test_a_cache_by_itself_gives_the_same_batches(monkeypatch, tmp_path, table):
    monkeypatch.setenv('FUNDUS_DATA', str(tmp_path))
    def batch(**kw): return make_learner(table, 'oct', TrainOptions('test_resnet', **TINY, **kw)).dls.valid.one_batch()[0]
    plain = batch()
    assert not (tmp_path/'cache').exists() # six patients are read in no time
    monkeypatch.setattr(steps, 'training_seconds', lambda *args: (100,200))
    assert torch.equal(plain, batch()) and list((tmp_path/'cache').rglob('cache.json'))

def test_pictures_and_readouts_are_not_cached(monkeypatch, table):
    monkeypatch.setattr(steps, 'training_seconds', lambda *args: (100,200))
    learn = make_learner(table, 'oct', TrainOptions('test_resnet', **TINY, cache=False))
    assert steps.worth_caching(learn, TrainOptions('test_resnet', **TINY|dict(weights='imagenet'), fit='readout')) is False
    monkeypatch.setattr(learn.dls.train_ds, 'items', learn.dls.train_ds.items.assign(path=0))
    assert steps.worth_caching(learn, TrainOptions('test_resnet', **TINY)) is False

def test_training_seconds(monkeypatch, table):
    "In proportion to epochs, and reading that takes longer is seen"
    learn = make_learner(table, 'oct', TrainOptions('test_resnet', **TINY, cache=False))
    once,opener = steps.training_seconds(learn, 1),learn.dls.opener
    def slow(path): time.sleep(.05); return opener(path)
    slow.size = opener.size
    monkeypatch.setattr(learn.dls, 'opener', slow)
    assert steps.training_seconds(learn, 10)[0]>10*.05*len(learn.dls.train_ds) and min(once)>0 and learn.model.training

def test_the_net_is_timed_where_the_batches_go(monkeypatch, table):
    "fastai moves a net to the device of its batches when training begins, and not before"
    learn = make_learner(table, 'oct', TrainOptions('test_resnet', **TINY, cache=False))
    learn.dls.device = torch.device('meta') # stands for a card: a net elsewhere would not take its pictures
    monkeypatch.setattr(steps, 'median_seconds', lambda f, items: 2.)
    images = len(learn.dls.train_ds) # eight a batch, and a way back that takes twice the way there
    assert steps.training_seconds(learn, 2)[1]==pytest.approx(2*images*2*3/8) and next(learn.model.parameters()).device.type=='meta'

@pytest.mark.parametrize('how,why', [(dict(bs=1), 'bs=1'), (dict(arch='test_vit', size=100), 'cannot read pictures of 100 pixels')])
def test_nothing_is_decoded_for_a_net_that_cannot_be(monkeypatch, table, how, why):
    monkeypatch.setattr('fundus_fastai.vision.data.open_cache', lambda *args, **kwargs: pytest.fail("decoded"))
    with pytest.raises(EyeError, match=why): make_learner(table, 'oct', TrainOptions(**(dict(arch='test_resnet', cache=True)|TINY|how)))


def test_photographs_among_scans_are_told_before_training(tmp_path, capsys):
    from fundus_fastai.phantom.fundus import phantom_fundus
    (tmp_path/'DME').mkdir()
    Image.fromarray(phantom_fundus(seed=1, size=256).image).save(tmp_path/'DME'/'p1_left.png')
    load_frame('oct', tmp_path)
    assert 'p1_left.png is in color, as a photograph, and the task asks for scans' in capsys.readouterr().err
    with pytest.raises(EyeError, match='is in color'): load_frame('oct', tmp_path, strict=True)

def test_a_table_that_was_sorted_otherwise_is_the_same_frame(tmp_path):
    "Another order of rows was another net, under the same seed, split and digest of the data"
    names = [f'{k}.png' for k in 'cabd']
    eyes(tmp_path, names)
    t = pd.DataFrame(dict(path=names, patient=list('1234'), label=list('xyxy')))
    t.to_csv(tmp_path/'a.csv', index=False)
    t[::-1][['label','path','patient']].to_csv(tmp_path/'b.csv', index=False)
    a,b = (load_frame('oct', tmp_path/f'{k}.csv') for k in 'ab')
    pd.testing.assert_frame_equal(a, b[list(a)])
    assert a.patient.tolist()==['2','3','1','4'] and a.attrs['rows']==4
