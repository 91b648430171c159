"Questions to a photograph: targets, answers, balance, recipes, and what happens after the split only"
from pathlib import Path
import json
import cv2, numpy as np, pandas as pd, pytest, torch
from fastai.torch_core import set_seed
from fundus_fastai.options import TrainOptions
from fundus_fastai.vision.outputs import output_types
from fundus_fastai.core import DataError, EyeError, LeakError
from fundus_fastai.image.read import read_image
from fundus_fastai.image.recipe import as_recipe
from fundus_fastai.vision.steps import load_frame, make_learner, split_frame
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.tasks import get_task, tasks
from fundus_fastai.commands import train
from nets import eye

pytestmark = pytest.mark.newest

torch.set_num_threads(1)
LABELS = ('haze','drusen','cupping')

@pytest.fixture(scope='module')
def table(tmp_path_factory):
    "A CSV of 48 eyes of 24 people with every kind of target"
    d = tmp_path_factory.mktemp('eyes')
    rng,rows = np.random.default_rng(0),[]
    for i in range(48):
        side,p = 'LR'[i%2],i//2
        cv2.imwrite(str(d/f'{i}.png'), eye(i, side)[...,::-1])
        rows.append(dict(path=f'{i}.png', patient=f'p{p}', eye=side, sex='FM'[p%2], age=40+p, grade=[0,0,2,1][p%4],
                         haze=p%2, drusen=int(p%3==0), cupping=int(p%8==0), kind=['a','b','c'][p%3]))
    pd.DataFrame(rows).to_csv(d/'eyes.csv', index=False)
    return d/'eyes.csv'

def frame(table, task, **kw): return split_frame(load_frame(task, table, **kw), by='rarest' if task=='diseases' else 'label')

QUESTIONS = {'anomaly':'haze', 'disease':'kind', 'diseases':','.join(LABELS), 'sex':None, 'age':None, 'sex_age':None, 'dr':None,
             'dr_ordered':None, 'laterality':None}

@pytest.mark.parametrize('task', QUESTIONS)
def test_every_task_from_a_csv(table, task):
    "Each question can be asked of a plain CSV, learns a batch, and answers every image in columns of its kind"
    df = frame(table, task, label=QUESTIONS[task])
    learn = make_learner(df, task, TrainOptions('resnet10t', weights='none', size=32, bs=8, workers=0))
    x,y = learn.dls.one_batch()
    loss = learn.loss_func(learn.model(x), y)
    loss.backward()
    assert loss.isfinite() and x.shape[1:]==(3,32,32)
    assert all(p.grad is not None for p in learn.model.parameters() if p.requires_grad)
    t = learn.predict_frame(df, label='label')
    assert len(t)==48 and t.notna().all().all()
    kind = get_task(task).kind
    if kind.classes and not kind.number_beside: assert np.allclose(t.filter(regex='^p_').sum(axis=1), 1, atol=1e-5)
    if kind.labels: assert (t[[f'target_{o}' for o in LABELS]].to_numpy()==df[list(LABELS)].to_numpy()).all()
    if kind.numeric: assert t.target.tolist()==df.label.tolist()

def test_registry_is_complete():
    assert set(tasks)==set(QUESTIONS)|{'oct'} and {t.output_type.kind.name for t in tasks.values()}==set(output_types)
    assert [t.name for t in tasks.values() if not t.flip]==['laterality']
    assert all(as_recipe(t.recipe) is not None and t.question.endswith('?') for t in tasks.values())

def test_sex_and_age_carry_a_warning():
    assert all('not to identify' in get_task(o).note for o in ('sex','age','sex_age'))

@pytest.mark.parametrize('balance', ['none','sample'])
def test_nothing_of_validation_or_test_is_ever_drawn_for_training(table, balance):
    "Whatever copies images, by a sampler or an augmentation, draws from the training rows alone"
    df = frame(table, 'diseases', label=','.join(LABELS))
    dls = make_learner(df, 'diseases', TrainOptions('resnet10t', weights='none', size=32, bs=4, balance=balance, workers=0)).dls
    rows = df[df.split.isin(['train','valid'])].reset_index(drop=True)
    assert set(dls.train_ds.items.path)==set(df.path[df.split=='train'])
    assert set(dls.valid_ds.items.path)==set(df.path[df.split=='valid'])
    assert not set(dls.train_ds.items.patient) & set(df.patient[df.split!='train'])
    idxs = [i for _ in range(30) for i in dls.train.get_idxs()]
    assert set(idxs) <= set(range((rows.split=='train').sum()))

def test_a_task_augments_training_only(table):
    df = frame(table, 'sex')
    dls = make_learner(df, 'sex', TrainOptions('resnet10t', weights='none', size=32, bs=4, workers=0)).dls
    v = [dls.valid.one_batch()[0] for _ in range(2)]
    assert torch.equal(*v)
    before = read_image(df.path[df.split=='valid'].iloc[0])
    want = dls.opener(before)
    assert np.array_equal(np.array(dls.valid_ds[0][0]), np.array(want)) # no augmentation sits before the batch
    batches = [dls.train.one_batch()[0].shape for _ in range(2)]
    assert batches[0]==batches[1]

def test_label_aware_sampling_shows_rare_labels_more_often(table):
    df = frame(table, 'diseases', label=','.join(LABELS))
    seen = {}
    for balance in ('none','sample'):
        set_seed(3)
        dls = make_learner(df, 'diseases', TrainOptions('resnet10t', weights='none', size=32, bs=4, balance=balance, workers=0)).dls
        idx = [i for _ in range(60) for i in dls.train.get_idxs()]
        seen[balance] = dls.train_ds.items.iloc[idx][list(LABELS)].mean()
    rare = df[df.split=='train'][list(LABELS)].sum().idxmin()
    assert seen['sample'][rare] > 1.3*seen['none'][rare]

# --- laterality

def test_laterality_is_kept_where_it_matters(table):
    "A bright spot marks the side: no training image of `laterality` may have it on the other one, of `sex` half do"
    def sides(task):
        df = frame(table, task)
        df = df.assign(label=df.eye.map(dict(L='left', R='right'))) # the target tells the true side in both
        learn = make_learner(df, task, TrainOptions('resnet10t', weights='none', size=64, bs=4, workers=0))
        names,agree = learn.dls.output.names,[]
        for _ in range(4):
            for x,y in learn.dls.train:
                bright = x.cpu().clamp(min=.5).sum(1)
                right = bright[...,32:].sum((1,2)) > bright[...,:32].sum((1,2))
                agree += [(names[int(k)]=='right')==bool(r) for k,r in zip(y, right)]
        return np.mean(agree)
    set_seed(0)
    assert sides('laterality')==1 and .3<sides('sex')<.7

# --- recipes

def test_recipe_reaches_training_validation_prediction_and_view(table):
    df = frame(table, 'sex')
    dls = make_learner(df, 'sex', TrainOptions('resnet10t', weights='none', size=32, bs=4, workers=0, recipe='red')).dls
    assert str(dls.opener.recipe)==str(as_recipe('red'))
    for ds in (dls.train_ds, dls.valid_ds): assert np.ptp(np.array(ds[0][0]), axis=2).max()==0
    assert np.ptp(np.array(dls.test_dl(df[:2]).dataset[0][0]), axis=2).max()==0
    assert np.ptp(dls.opener.view(df.path[0]), axis=2).max()==0

def test_recipe_none_takes_the_file_as_it_is(table):
    df = frame(table, 'sex')
    a,b = (make_learner(df, 'sex', TrainOptions('resnet10t', weights='none', size=32, bs=4, workers=0, recipe=r)).dls.opener for r in ('none',None))
    assert len(a.recipe)==0 and a.view(df.path[0]).shape==(96,120,3)
    assert str(b.recipe)==str(as_recipe(get_task('sex').recipe)) and b.view(df.path[0]).shape[0]==b.view(df.path[0]).shape[1]

# --- bad input

@pytest.mark.parametrize('task,edit,words', [
    ('diseases', dict(haze=2), ["'haze'", '0 and 1', '2']),
    ('diseases', dict(cupping=0), ['no image has the label cupping', '`label=']),
    ('dr', dict(grade=7), ['grades are 0 to 4', '7']),
    ('age', dict(age=431), ['not between 0 and 120', '431']),
    ('sex', dict(sex='x'), ['no known sex', 'x']),
])
def test_label_columns_with_other_values(table, tmp_path, task, edit, words):
    "The message names column and values"
    df = pd.read_csv(table).assign(**edit)
    df.to_csv(tmp_path/'bad.csv', index=False)
    with pytest.raises(DataError) as e: load_frame(task, tmp_path/'bad.csv', images=str(table.parent), label=QUESTIONS[task])
    assert all(w in str(e.value) for w in words), e.value

def test_a_label_that_every_image_has_is_refused(table):
    "It would be a net that says yes"
    df = load_frame('diseases', table, label=QUESTIONS['diseases']).assign(haze=1, split='train')
    with pytest.raises(DataError, match='every image has the label haze: a net cannot learn it; write 0'):
        get_task('diseases').output(df)

def test_an_output_is_of_the_rows_to_learn_from():
    "Of a frame that is not dealt yet, of all; a scale has the steps between its grades"
    df = pd.DataFrame(dict(label=['0','2','2','0'], split=['train','train','valid','valid']))
    for t in (df, df.drop(columns='split')): assert list(get_task('dr').output(t).names)==['0','1','2'] and list(get_task('disease').output(t).names)==['0','2']
    assert get_task('dr').kind.ordinal and not get_task('disease').kind.ordinal and get_task(get_task('dr')) is get_task('dr')
    old = df.assign(label=[40.,50,60,70])
    for t,mean in ((old, 45), (old.drop(columns='split'), 55)): assert get_task('age').output(t).center==mean

def test_text_instead_of_age(table, tmp_path):
    pd.read_csv(table).assign(age='old').to_csv(tmp_path/'bad.csv', index=False)
    with pytest.raises(DataError, match='old'): load_frame('age', tmp_path/'bad.csv', images=str(table.parent))

def test_all_zero_rows_stay_and_are_told(table, tmp_path, capsys):
    df = pd.read_csv(table); df.loc[:9, list(LABELS)] = 0
    df.to_csv(tmp_path/'t.csv', index=False)
    f = load_frame('diseases', tmp_path/'t.csv', images=str(table.parent), label=','.join(LABELS))
    assert len(f)==48 and 'have none of the labels' in capsys.readouterr().err and (f.label=='none').sum()>=10

def test_missing_targets_are_counted(table, tmp_path, capsys):
    df = pd.read_csv(table); df.loc[:6, 'age'] = np.nan
    df.to_csv(tmp_path/'t.csv', index=False)
    assert len(load_frame('age', tmp_path/'t.csv', images=str(table.parent)))==41
    assert '7 of 48' in capsys.readouterr().err

def test_a_label_absent_from_training(table):
    df = frame(table, 'diseases', label=','.join(LABELS)); df.loc[df.split=='train','cupping'] = 0
    with pytest.raises(DataError, match='no training image shows cupping'): make_learner(df, 'diseases', TrainOptions('resnet10t', weights='none'))
    df = frame(table, 'disease', label='kind'); df.loc[df.split=='train','label'] = 'a'
    with pytest.raises(DataError, match='no training image shows b, c'): make_learner(df, 'disease', TrainOptions('resnet10t', weights='none'))

def test_a_readout_takes_validation_patients_in_the_end(table, tmp_path):
    "What thresholds are chosen by is no answer of the net to its own teachers; without a test side nothing is fitted again"
    kw = dict(data=table, arch='resnet10t', weights='none', fit='readout', size=32, bs=8, workers=0, maps=0)
    train('age', out=tmp_path/'a', **kw)
    old,config = pd.read_csv(tmp_path/'a/split.csv'),json.loads((tmp_path/'a/config.json').read_text())
    assert f"again to all {(old.split!='test').sum()} other images" in config['note'] and config['crossed']
    valid = pd.read_csv(tmp_path/'a/validation.csv')
    assert sorted(valid.path)==sorted(old.path[old.split!='test'])
    df = frame(table, 'age')
    now = load_model(tmp_path/'a').predict_frame(df[df.split!='test'], label='label')
    now['path'] = [str(Path(o).relative_to(df.attrs['root'])) for o in now.path]
    both = now.merge(valid, on='path', suffixes=('','_cv'))
    assert len(both)==len(valid) and np.abs(both.pred-both.pred_cv).max()>.01 and (both.target==both.target_cv).all()
    assert np.abs(both.pred-both.target).mean() < np.abs(both.pred_cv-both.target).mean()
    cut = old[['path','patient']].assign(split=np.where(old.split=='train', 'train', 'valid'))
    cut.to_csv(tmp_path/'split.csv', index=False)
    train('age', out=tmp_path/'b', split=str(tmp_path/'split.csv'), **kw)
    config = json.loads((tmp_path/'b/config.json').read_text())
    assert 'again' not in config['note'] and not config['crossed']

def test_both_eyes_on_different_sides_of_a_given_split(table, tmp_path):
    df = load_frame('sex', table)
    cut = pd.read_csv(table).assign(split=['train','valid']*20+['test']*8)[['path','patient','split']]
    cut.to_csv(tmp_path/'split.csv', index=False)
    with pytest.raises(LeakError, match='both train and valid: p0'): split_frame(df, tmp_path/'split.csv')

@pytest.fixture
def dark_table(table, tmp_path):
    "The same eyes, one of them nearly black, one blank, one portrait, one small"
    df = pd.read_csv(table); df['path'] = [str(table.parent/o) for o in df.path]
    odd = {'black':np.full((96,96,3), 3, np.uint8), 'blank':np.zeros((90,90,3), np.uint8),
           'portrait':np.ascontiguousarray(np.rot90(eye(3))), 'small':eye(4)[::4,::4]}
    for i,(k,im) in enumerate(odd.items()):
        cv2.imwrite(str(tmp_path/f'{k}.png'), im[...,::-1]); df.loc[i,'path'] = str(tmp_path/f'{k}.png')
    df.to_csv(tmp_path/'dark.csv', index=False)
    return tmp_path/'dark.csv'

def test_dark_images_are_told_and_stay(dark_table, capsys):
    df = load_frame('sex', dark_table)
    err = capsys.readouterr().err
    assert len(df)==48 and '2 of 48 images are doubtful' in err and 'black.png' in err and 'blank.png' in err and '--strict' in err
    with pytest.raises(DataError, match='doubtful'): load_frame('sex', dark_table, strict=True)

def test_dark_and_odd_images_go_through_training(dark_table):
    df = split_frame(load_frame('sex', dark_table)).assign(split=lambda d: ['train']*32+['valid']*16)
    learn = make_learner(df, 'sex', TrainOptions('resnet10t', weights='none', size=32, bs=8, workers=0))
    for x,_ in learn.dls.train: assert x.shape[1:]==(3,32,32) and x.isfinite().all()

@pytest.mark.parametrize('task,balance', [('age','loss'), ('age','focal'), ('sex','asymmetric'), ('sex_age','focal'), ('sex','rare')])
def test_balance_that_does_not_suit(table, task, balance):
    with pytest.raises(EyeError, match='balance'): make_learner(frame(table, task), task, TrainOptions('resnet10t', weights='none', balance=balance))

def test_loading_a_net_speaks_of_no_picture(table, tmp_path, capsys, monkeypatch):
    "A stand-in without an eye would be remarked on, and the remark on the first real one would be lost"
    monkeypatch.setattr('fundus_fastai.image.recipe._told', set())
    save_model(make_learner(frame(table, 'sex'), 'sex', TrainOptions('test_resnet', weights='none', size=32, bs=4, workers=0)), tmp_path, 'sex')
    capsys.readouterr()
    load_model(tmp_path)
    assert 'visible field' not in capsys.readouterr().err
