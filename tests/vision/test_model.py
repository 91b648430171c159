"Saving and loading: in a fresh process, without pickle, from whatever config and weights"
import os, shutil
import numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import (CategoryBlock, ClassificationInterpretation, ColReader, ColSplitter, DataBlock, ImageBlock, MSELossFlat,
                               MultiCategoryBlock, PILImage, Path, Resize, get_image_files, load_learner)
from PIL import Image
from safetensors.torch import load_file
from fundus_fastai.options import TrainOptions, task_names
from fundus_fastai.core import DataError, EyeError, ModelError, read_json, sha256, write_json
from fundus_fastai.explain import attribution
from fundus_fastai.image.recipe import Eye
from fundus_fastai.vision.steps import fit_run, make_learner
from fundus_fastai.vision.data import PILFundus, eye_dls
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.outputs import NumberOutput
from fundus_fastai.vision.tasks import Task, add_task, tasks
from fundus_fastai.vision.learner import eye_learner, one_cycle_plan
from nets import tiny, eye, frame, noise_dls, body_of, same, refused

pytestmark = pytest.mark.newest

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A small finished model"
    learn = eye_learner(noise_dls(64), 'resnet10t', weights=None, ps=.3)
    return save_model(learn, tmp_path_factory.mktemp('run'))

@pytest.fixture(scope='module')
def images(tmp_path_factory):
    d = tmp_path_factory.mktemp('images')
    for i,a in enumerate(frame(3, side=90, seed=9).path): Image.fromarray(a).save(d/f'{i}.png')
    return sorted(map(str, d.iterdir()))

@pytest.mark.parametrize('arch', ['resnet10t','squeezenet1_1','inception_v3'])
def test_round_trip_in_a_fresh_process(worker, images, tmp_path, request, arch):
    if arch=='inception_v3': learn = request.getfixturevalue('inception')[0]
    else: learn = eye_learner(noise_dls(64, classes=['a b','é','1']), arch, weights=None, ps=.3, lin_ftrs=[16])
    save_model(learn, tmp_path/'run', source='phantom')
    want,got = learn.predict_frame(images),worker('predict', str(tmp_path/'run'), images)
    assert got.get('columns')==list(want.columns), got
    assert np.array_equal(np.array(got['p'], dtype=np.float32), want.filter(like='p_').to_numpy())
    assert got['unpickled']==[], "loading unpickled something"
    assert len(want.filter(like='p_').drop_duplicates())==3, "predictions do not depend on the image"

@pytest.mark.parametrize('arch,how', [('mambaout_femto',{}), ('mambaout_femto',dict(probe=True)), ('efficientvit_b0',dict(probe=True))])
def test_maps_with_channels_last_and_blocks_that_do_not_run(tmp_path, arch, how):
    "Families whose body hands its map on as Swin does, or has parts that only its own head would call: fitted, saved, loaded, explained"
    torch.manual_seed(2)
    learn = eye_learner(noise_dls(64), arch, weights=None, **how)
    with learn.no_bar(), learn.no_logging(): learn.fit_probe() if how else learn.fit(1)
    save_model(learn, tmp_path/'run', source='phantom')
    items = frame(3, seed=9)
    want,again = (o.predict_frame(items).filter(like='p_').to_numpy() for o in (learn, load_model(tmp_path/'run')))
    assert np.abs(want-again).max()<1e-6 and len(np.unique(want, axis=0))==3 # hardly, as it is untrained
    if not how: assert learn.evidence([Eye(items.path[0])], 'grad_cam').map.std()>0

def test_a_loaded_model_has_no_data_to_train_or_measure_on(run):
    "Whatever fastai would do with the stand-ins is refused, until there are images"
    learn,data = load_model(run),noise_dls(64)
    deeds = [learn.validate, learn.get_preds, lambda: learn.fine_tune(1), learn.fit_eye, learn.lr_find,
             lambda: ClassificationInterpretation.from_learner(learn)]
    before = {k:v.clone() for k,v in learn.model.state_dict().items()}
    call = 'learn.dls = eye_dls.df, output=learn.output, image=.oct., recipe=learn.opener.recipe, size=learn.size.`'
    for do in deeds:
        with learn.no_bar(), refused('came without data', call): do()
    assert same(before, learn.model.state_dict())
    with learn.no_bar(), learn.no_logging():
        got = learn.validate(dl=learn.dls.test_dl(data.valid_ds.items, with_labels=True))
        learn.dls = data
        assert [*learn.validate()]==pytest.approx([*got]) and len(learn.get_preds()[0])==4
        learn.fit(1)

def test_no_pickle_in_a_run_folder(inception, tmp_path):
    "Checkpoints included, every file is safetensors, JSON or CSV, and none can be unpickled, plain or zipped"
    import pickletools, zipfile
    learn = eye_learner(noise_dls(), tiny, weights=None)
    from contextlib import redirect_stderr
    with redirect_stderr(open(os.devnull,'w')): fit_run(learn, tmp_path, TrainOptions(epochs=1))
    save_model(learn, tmp_path)
    names = sorted(str(o.relative_to(tmp_path)) for o in tmp_path.rglob('*') if o.is_file())
    assert names==['checkpoints/best.safetensors','checkpoints/last.safetensors','config.json','history.csv','model.safetensors']
    for f in map(tmp_path.joinpath, names):
        assert not zipfile.is_zipfile(f) and not f.read_bytes().startswith(b'\x80')
        with pytest.raises(Exception): list(pickletools.genops(f.read_bytes()))
        if f.suffix=='.safetensors': assert load_file(f)
    assert str(tmp_path) not in (tmp_path/'config.json').read_text()

bad_configs = dict(later=dict(format=9), later_fraction=dict(format=2.5), later_text=dict(format='9'), none=dict(format=None),
    one_class=dict(classes=['A']), no_class=dict(classes=[]), more_classes=dict(classes=['A','B','C']), text_classes=dict(classes='AB'),
    twins=dict(classes=['A','A']), size_text=dict(size='big'), size_zero=dict(size=0), size_negative=dict(size=-3), size_huge=dict(size=10**9),
    head_unknown=dict(head={'bogus':1}), head_code=dict(head={'custom_head':'x'}), head_list=dict(head=[]), head_null=dict(head=None),
    head_other=dict(head={'lin_ftrs':[7], 'ps':.3}), one_channel=dict(normalize={'mean':[.5],'std':[.5]}), no_std=dict(normalize={'mean':[.5]*3}),
    zero_std=dict(normalize={'mean':[.5]*3, 'std':[0,1,1]}), normalize_number=dict(normalize=3),
    normalize_text=dict(normalize={'mean':list('abc'), 'std':[1]*3}), no_net=dict(arch='../../x'), number_net=dict(arch=3),
    other_net=dict(arch='resnet18'), no_task=dict(task='nope'), list_task=dict(task=['oct']), no_digest=dict(sha256=None),
    told_text=dict(training='x'), read_list=dict(read=[]), source_list=dict(source=['phantom']), note_number=dict(note=3), data_number=dict(data=3),
    chosen_text=dict(operating='positive'), no_positive=dict(operating={'positive':3}), guess_text=dict(operating={'guess':'x'}),
    threshold_text=dict(operating={'thresholds':{'A':'a'}}), cut_text=dict(operating={'cuts':[.5,'x']}))

@pytest.mark.parametrize('name', bad_configs)
def test_config_that_cannot_be(run, tmp_path, name):
    shutil.copytree(run, tmp_path/'run')
    write_json(tmp_path/'run/config.json', {**read_json(run/'config.json'), **bad_configs[name]})
    with pytest.raises(EyeError) as e: load_model(tmp_path/'run')
    if name.startswith('later'): assert 'pip install -U' in str(e.value)

@pytest.mark.parametrize('key', ['format','task','arch','head','classes','size','normalize','sha256','weights'])
def test_incomplete_config(run, tmp_path, key):
    shutil.copytree(run, tmp_path/'run')
    write_json(tmp_path/'run/config.json', {k:v for k,v in read_json(run/'config.json').items() if k!=key})
    if key=='weights': # a note about the past, of no use in rebuilding: allowed either way
        try: load_model(tmp_path/'run')
        except ModelError: pass
        return
    with refused(f'lacks {key}'): load_model(tmp_path/'run')

@pytest.mark.parametrize('text', ['', '[]', '{"format": 1', 'null', '\x80\x04'])
def test_config_that_is_none(run, tmp_path, text):
    shutil.copytree(run, tmp_path/'run')
    (tmp_path/'run/config.json').write_text(text, encoding='latin1')
    with pytest.raises(EyeError, match='config.json'): load_model(tmp_path/'run')

def test_tampered_weights(run, tmp_path):
    shutil.copytree(run, tmp_path/'run')
    f,cfg = tmp_path/'run/model.safetensors',read_json(run/'config.json')
    whole = f.read_bytes()
    for changed in (whole[:-1]+bytes([whole[-1]^1]), whole[:len(whole)//2], b'', whole+b'x'):
        f.write_bytes(changed)
        with refused('sha256'): load_model(tmp_path/'run')
    for changed in (whole[:len(whole)//2], b'\xff'*16): # whoever changes both may get as far as safetensors, and no further
        f.write_bytes(changed)
        write_json(tmp_path/'run/config.json', {**cfg, 'sha256':sha256(f)})
        with pytest.raises(ModelError, match='weights'): load_model(tmp_path/'run')
    f.unlink()
    with refused('model.safetensors is missing'): load_model(tmp_path/'run')
    with refused('config.json is missing'): load_model(tmp_path/'nowhere')

def test_a_run_is_a_start_for_other_labels(tmp_path):
    old = make_learner(frame(), 'oct', TrainOptions(tiny, weights='none', size=32, bs=4, workers=0))
    with old.no_bar(), old.no_logging(): old.fit_eye(one_cycle_plan(1, pretrained=False))
    run = save_model(old, tmp_path/'first run')
    learn = make_learner(frame(classes='XYZ'), 'oct', TrainOptions(tiny, weights=str(run), size=32, bs=4, workers=0))
    assert same(body_of(learn), body_of(old)) and list(learn.dls.vocab)==['X','Y','Z']
    assert learn.predict_frame(frame(2)).filter(like='p_').columns.tolist()==['p_X','p_Y','p_Z']
    assert learn.config['weights']=='first run'
    with refused('first run does not fit resnet10t'): make_learner(frame(), 'oct', TrainOptions('resnet10t', weights=run, size=32, bs=4, workers=0))

# who vouches for config.json

decisive = dict(classes=['B','A'], size=48, task='anomaly', recipe='crop', head={'lin_ftrs':[], 'ps':.4},
                normalize={'mean':[.5]*3, 'std':[.5]*3}, positive='A', answer=dict(kind='category', names=['B','A'], center=0, spread=1))

@pytest.mark.parametrize('key', decisive)
def test_a_config_that_would_answer_otherwise_is_refused(run, tmp_path, key):
    shutil.copytree(run, tmp_path/'run')
    write_json(tmp_path/'run/config.json', {**read_json(run/'config.json'), key:decisive[key]})
    with refused('different things about', key): load_model(tmp_path/'run')

def resaved(run, to, metadata=None, change=lambda w: w):
    "The run with other weights, and a config that vouches for them"
    from safetensors.torch import save_file
    shutil.copytree(run, to)
    save_file(change(load_file(run/'model.safetensors')), to/'model.safetensors', metadata=metadata)
    write_json(to/'config.json', {**read_json(run/'config.json'), 'sha256':sha256(to/'model.safetensors')})
    return to

def test_a_run_of_an_earlier_version_loads_and_says_that_it_has_no_copy(run, tmp_path, capsys):
    load_model(run)
    assert 'earlier version' not in capsys.readouterr().err
    assert load_model(resaved(run, tmp_path/'old')).config['classes']==read_json(run/'config.json')['classes']
    assert 'earlier version' in capsys.readouterr().err

def later(run, to, more=None, version='99.1', **kept):
    "The run as a later version might write it: `more` in its config, `kept` beside the weights, too"
    import json
    from safetensors import safe_open
    with safe_open(run/'model.safetensors', 'pt') as f: old = json.loads(f.metadata()['fundus'])
    resaved(run, to, dict(fundus=json.dumps(old|kept)))
    write_json(to/'config.json', {**read_json(to/'config.json'), **kept, **(more or {}), 'library_version':version})
    return to

def test_a_run_of_a_later_version_with_notes_alone_loads(run, tmp_path):
    assert load_model(later(run, tmp_path/'run', dict(weather='fine'))).config['weather']=='fine'

answer = dict(kind='category', names=['A','B'], center=0., spread=1.)

@pytest.mark.parametrize('kept,words', [
    (dict(tta=4), ['tta', 'decides its answers']), (dict(recipe='polish'), ['recipe', '99.1 wrote it']),
    (dict(answer=answer|dict(temper=2)), ['no answer that we know', '99.1 wrote it']),
    (dict(answer=answer|dict(kind='rank')), ['no answer that we know', '99.1 wrote it']),
    (dict(normalize=dict(mean=[.5]*3, std=[.2]*3, space='lab')), ['no usable normalize', '99.1 wrote it']),
    (dict(head=dict(lin_ftrs=[], ps=.1, gate=1)), ['no usable head', '99.1 wrote it']), (dict(task='gout'), ["'gout'", '99.1 wrote it'])])
def test_what_a_later_version_decides_answers_by_is_not_passed_over(run, tmp_path, kept, words):
    "It was answered as if it were not there, or called changed or damaged"
    with refused(*words, 'pip install -U'): load_model(later(run, tmp_path/'run', **kept))

def test_what_no_later_version_wrote_is_called_changed(run, tmp_path):
    for k,version in enumerate(('0.1.0', None, 'x')):
        with refused('no usable normalize', 'changed or damaged'): load_model(later(run, tmp_path/str(k), version=version, normalize=dict(mean=[.5]*3, std=[.2]*3, space='lab')))

def test_weights_that_are_no_numbers(run, tmp_path):
    def spoil(w):
        k = next(k for k,v in w.items() if v.is_floating_point())
        w[k] = w[k].clone(); w[k].view(-1)[0] = float('nan')
        return w
    with refused('not numbers', 'diverged'): load_model(resaved(run, tmp_path/'nan', change=spoil))

def test_a_giant_net_is_not_built(run, tmp_path, monkeypatch):
    from fundus_fastai.vision import model
    resaved(run, tmp_path/'run')
    write_json(tmp_path/'run/config.json', {**read_json(tmp_path/'run/config.json'), 'arch':'vit_giant_patch14_224'})
    monkeypatch.setattr(model, 'eye_learner', lambda *args, **kwargs: pytest.fail("the net was built"))
    with refused('do not fit vit_giant_patch14_224', 'tensors are missing'): load_model(tmp_path/'run')

def test_a_config_of_brackets(run, tmp_path):
    shutil.copytree(run, tmp_path/'run')
    for text in ('['*100_000, '{"a":'*100_000, '{"size": '+'9'*10_000+'}'):
        (tmp_path/'run/config.json').write_text(text)
        with pytest.raises(EyeError, match='config.json'): load_model(tmp_path/'run')

# what two files cannot say

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "A table of made-up eyes in files, wider than high"
    d = tmp_path_factory.mktemp('photos')
    for i in range(8): Image.fromarray(eye(i)).save(d/f'{i}.png')
    return pd.DataFrame(dict(path=[str(d/f'{i}.png') for i in range(8)], patient=range(8), eye='L', label=list('ab')*4, age=40.+np.arange(8),
                             split=['train']*4+['valid']*4, late=[False]*4+[True]*4, marks=['a','b','a b','']*2))

def own_dls(df, fit=Resize(48, method='squish'), block=CategoryBlock, **kwargs):
    "`DataLoaders` as a user of fastai makes them"
    read = ColReader('label', **kwargs) if not kwargs else ColReader('marks', **kwargs)
    db = DataBlock((ImageBlock,block), get_x=ColReader('path'), get_y=read, splitter=ColSplitter('late'), item_tfms=fit)
    return db.dataloaders(df, bs=2, num_workers=0)

def aged(df):
    ages = NumberOutput.learn(df.assign(label=df.age))
    return eye_dls(df.assign(label=df.age), output=ages, image='fundus', size=48, bs=2, workers=0)

other_answers = dict(
    loss=(lambda df: eye_learner(aged(df), tiny, None, loss_func=MSELossFlat()), 'reads the scores of this net otherwise than ScaledLoss'),
    range=(lambda df: eye_learner(aged(df), tiny, None, y_range=(-.5,.5)), 'made with y_range'),
    head=(lambda df: eye_learner(own_dls(df), tiny, None, custom_head=torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                                                                                         torch.nn.Linear(64, 2))), 'made with custom_head'),
    several=(lambda df: eye_learner(own_dls(df, block=MultiCategoryBlock, label_delim=' '), tiny, None), 'reads the scores of this net otherwise'),
    cut=(lambda df: eye_learner(own_dls(df, Resize(48)), tiny, None), 'squeezed to 48 pixels'),
    wide=(lambda df: eye_learner(own_dls(df, Resize((32,48), method='squish')), tiny, None), 'squeezed to 48 pixels'))

@pytest.mark.parametrize('how', other_answers)
def test_a_learner_that_would_come_back_as_another_is_not_saved(photos, tmp_path, how):
    make,why = other_answers[how]
    with refused(why, 'learn.export'): save_model(make(photos), tmp_path/'run', 'age' if how in ('loss','range') else 'anomaly')
    assert not (tmp_path/'run').exists()

def test_a_net_is_not_saved_under_a_task_that_asks_otherwise(photos, tmp_path):
    "Photographs would come back as scans, and years be scored as a class"
    learn = eye_learner(eye_dls(photos, image='fundus', size=48, bs=2, workers=0), tiny, None)
    with refused('reads photographs, and task oct scans: name the `task`'): save_model(learn, tmp_path/'run')
    with refused('of kind category, and task age of kind number'): save_model(learn, tmp_path/'run', 'age')
    with refused('of kind number, and task disease of kind category'): save_model(eye_learner(aged(photos), tiny, None), tmp_path/'run', 'disease')
    assert not (tmp_path/'run').exists()

def test_what_would_not_be_read_is_not_written(photos, tmp_path):
    learn = eye_learner(eye_dls(photos, image='fundus', size=48, bs=2, workers=0), tiny, None)
    with refused('size=5', '8 to 4096'): save_model(learn, tmp_path/'run', 'disease', size=5)
    assert not (tmp_path/'run').exists()

def test_another_net_is_not_saved_under_this_name(photos, tmp_path):
    learn = eye_learner(own_dls(photos), tiny, None)
    learn.model = torch.nn.Sequential(learn.model, torch.nn.Identity())
    with refused('not the net that test_resnet'): save_model(learn, tmp_path/'run', 'anomaly')

def test_own_loaders_that_open_files_as_we_do_are_saved(photos, tmp_path):
    learn = eye_learner(own_dls(photos), tiny, None)
    again = load_model(save_model(learn, tmp_path/'run', 'anomaly'))
    a,b = (o.predict_frame(photos).filter(like='p_').to_numpy() for o in (learn, again))
    assert np.abs(a-b).max()<1e-6 and len(np.unique(a.round(6), axis=0))>4

def test_one_picture_in_every_form(photos, tmp_path):
    "A trained and a loaded learner answer a path, an array, a picture and a row alike, and cook none of them twice"
    learn = eye_learner(eye_dls(photos, image='fundus', recipe='color', size=48, bs=2, workers=0), tiny, None)
    again,file = load_model(save_model(learn, tmp_path/'run', 'disease')),photos.path[1]
    forms = [file, Path(file), np.asarray(Image.open(file)), Image.open(file), PILImage.create(file), PILFundus.create(file), Eye.read(file),
             photos.iloc[1], learn.opener(file)]
    want = learn.predict_frame(photos).filter(like='p_').to_numpy()[1]
    for o in (learn, again):
        with o.no_bar(): got = [o.predict(f) for f in forms]
        assert all(np.abs(g[2].numpy()-want).max()<1e-6 and g[0]==again.dls.vocab[want.argmax()] for g in got)
        assert np.abs(o.predict_frame(forms[2:7]).filter(like='p_').to_numpy()-want).max()<1e-6

def test_files_and_what_is_none(photos):
    "Lists and columns of files go in as tables do; what is no picture of bytes is named, and gets no answer"
    learn = eye_learner(eye_dls(photos, image='fundus', recipe='color', size=48, bs=2, workers=0), tiny, None)
    want,file = learn.predict_frame(photos).filter(like='p_'),photos.path[0]
    assert learn.predict_frame(photos.path).filter(like='p_').equals(want)
    with learn.no_bar():
        for o in (photos.path.to_numpy(), photos.path.to_numpy(str)): assert learn.predict_frame(o).filter(like='p_').equals(want)
        for o in (photos, photos.path, photos.path.tolist(), get_image_files(Path(file).parent).sorted(), [Image.open(f) for f in photos.path]):
            assert np.abs(learn.get_preds(dl=learn.dls.test_dl(o))[0].numpy()-want.to_numpy()).max()<1e-6
        shown = learn.dls.valid.one_batch()[0]
        for o in (shown[0], shown, torch.rand(3, 48, 48), torch.zeros(48, 48, 3, dtype=torch.int64)):
            with pytest.raises(DataError, match=f'tensor of {o.dtype}.*give the file'): learn.predict(o)
        for o in ([file, file], Path(file).read_bytes(), None):
            with pytest.raises(DataError, match=f'not {type(o).__name__}: `predict_frame` takes several'): learn.predict(o)

def test_an_exported_learner_knows_what_it_answers_and_how_it_opens(photos, tmp_path):
    learn = eye_learner(eye_dls(photos, image='fundus', recipe='color', size=48, bs=2, workers=0, cache=tmp_path/'c'), tiny, None)
    learn.export(tmp_path/'all.pkl')
    again,few = load_learner(tmp_path/'all.pkl'),list(photos.path[:3])
    assert (again.size,again.output.names,str(again.opener.recipe))==(48,['a','b'],'crop')
    assert again.predict_frame(photos).equals(learn.predict_frame(photos)) and len(list(again.open_eyes(few)))==3
    a,b = (o.occlude(few, 16, 8, inside='field') for o in (learn, again))
    assert torch.equal(a.values, b.values) and torch.equal(a.inside, b.inside) and not a.inside.all()
    assert load_model(save_model(again, tmp_path/'run', 'disease')).predict_frame(photos).equals(learn.predict_frame(photos))

def test_a_task_that_is_not_known_here(run, tmp_path):
    "Trained where `add_task` made it, opened where nobody did"
    add_task(Task('mine', 'Whose is it?', 'csv', image='oct'))
    try: save_model(eye_learner(noise_dls(64), tiny, weights=None), tmp_path, 'mine')
    finally:
        del tasks['mine']
        task_names.remove('mine')
    with refused("answers the task 'mine'", r"add_task\(Task\('mine'"): load_model(tmp_path)
