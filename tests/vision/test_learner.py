"Weights from hub, file and run; options of training: with real clients and a stub hub"
import json, multiprocessing, os, shutil, socket, sys, time
from functools import cache
from pathlib import Path
import huggingface_hub.constants as hc, numpy as np, pandas as pd, pytest, timm, torch, torchvision
import fundus_fastai.explain.occlusion # learners have `occlude` by it
from fastai.callback.core import Callback
from fastai.data.transforms import Normalize
from fastai.metrics import R2Score, mae, rmse
from fastai.torch_core import set_seed
from fastai.vision.all import CategoryBlock, ColReader, DataBlock, ImageBlock, RegressionBlock, Resize, get_image_files
from PIL import Image
from huggingface_hub import close_session
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from fundus_fastai.options import TrainOptions
from fundus_fastai.core import DataError, EyeError, ModelError, read_json, sha256
from fundus_fastai.vision.steps import fit_run, make_learner
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.losses import mae_metric
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput
from fundus_fastai.vision.learner import Autocast, eye_learner, find_net, find_precision, find_weights, has_bf16, one_cycle_plan
from nets import tiny, frame, labeled, noise_dls, body_of, same, refused

pytestmark = pytest.mark.newest

troubles = dict(missing='test_efficientnet', nowhere='test_vit', gated='test_convnext', forbidden='test_byobnet', broken='test_nfnet',
                drop='test_maxvit', silent='test_coatnet')

@pytest.fixture(scope='module', autouse=True)
def answers(hub, worker):
    "What asking a hub in trouble comes to: asked early and at the same time, since patience is most of it"
    for deed,arch in troubles.items(): offer(hub, arch, b'x'*1000, deed)
    n = worker.ask('ask_all', list(troubles.values()))
    @cache
    def wait(): return dict(zip(troubles, worker.get(n)))
    return wait

@pytest.fixture(scope='module')
def net_weights():
    "Random weights of the tiny net, under timm's names, classifier included"
    torch.manual_seed(5)
    return {k:torch.randn_like(v) if v.is_floating_point() else v for k,v in timm.create_model(tiny).state_dict().items()}

# files

@pytest.fixture(scope='module')
def files(net_weights, tmp_path_factory):
    "The same weights in each dialect"
    d = tmp_path_factory.mktemp('weights')
    save_file(net_weights, d/'w.safetensors')
    np.savez(d/'w.npz', **{k:v.numpy() for k,v in net_weights.items()})
    torch.save(net_weights, d/'w.pth')
    torch.save(dict(epoch=3, state_dict={'module.'+k:v for k,v in net_weights.items()}), d/'wrapped.pth')
    save_file(net_weights, d/'w')
    (d/'folder').mkdir(); shutil.copy(d/'w.safetensors', d/'folder/model.safetensors')
    return d

@pytest.mark.parametrize('name', ['w.safetensors','w.npz','w.pth','wrapped.pth','folder'])
def test_file_weights_end_in_the_body(files, net_weights, name):
    learn = eye_learner(noise_dls(), tiny, weights=files/name)
    body = body_of(learn)
    assert same(body, net_weights) and not any(k.startswith('fc.') for k in body)
    assert str(files) not in json.dumps(learn.config) and learn.config['weights']==name
    assert all(not p.requires_grad for p in learn.model[0].parameters() if p.ndim>1), "the body should be frozen"

class Evil:
    def __init__(self, to): self.to = to
    def __reduce__(self): return Path.touch, (Path(self.to),)

def test_code_in_a_file_does_not_run(files, tmp_path):
    import pickle
    evil = Evil(tmp_path/'ran')
    torch.save({'conv':torch.ones(1), 'x':evil}, tmp_path/'evil.pth')
    torch.save({'x':evil}, tmp_path/'old.pth', _use_new_zipfile_serialization=False)
    (tmp_path/'plain.bin').write_bytes(pickle.dumps({'x':evil}))
    np.savez(tmp_path/'evil.npz', x=np.array([evil], dtype=object))
    (tmp_path/'pickle.npz').write_bytes(pickle.dumps({'x':evil}))
    for f in ['evil.pth','old.pth','plain.bin','evil.npz','pickle.npz']:
        with refused(f'cannot read weights from {f}'): eye_learner(noise_dls(), tiny, weights=tmp_path/f)
    assert not (tmp_path/'ran').exists()
    pickle.loads((tmp_path/'plain.bin').read_bytes()) # the files would have done it
    assert (tmp_path/'ran').exists()

odd = {'empty.pth':b'', 'empty.npz':b'', 'empty.safetensors':b'', 'page.safetensors':b'<!DOCTYPE html><title>Sign in</title>',
       'page.pth':b'<!DOCTYPE html>', 'page.npz':b'<!DOCTYPE html>', 'cut.safetensors':None, 'cut.npz':None, 'cut.pth':None,
       'list.pth':[torch.ones(2)], 'tensor.pth':torch.ones(2), 'numbers.pth':{1:torch.ones(2)}, 'nothing.pth':{}}

@pytest.mark.parametrize('name', odd)
def test_files_that_are_no_weights(files, tmp_path, name):
    what,f = odd[name],tmp_path/name
    if isinstance(what, bytes): f.write_bytes(what)
    elif what is None: f.write_bytes((b := (files/f'w{f.suffix}').read_bytes())[:len(b)//2])
    else: torch.save(what, f)
    with refused(name): eye_learner(noise_dls(), tiny, weights=f)

def test_wrong_net_or_half_a_net(files, net_weights, tmp_path):
    with refused('w.safetensors does not fit resnet10t', '`arch`'): eye_learner(noise_dls(), 'resnet10t', weights=files/'w.safetensors')
    half = dict(list(net_weights.items())[:len(net_weights)//2])
    save_file(half, tmp_path/'half.safetensors')
    with refused('half.safetensors', f'does not fit {tiny}', 'missing'): eye_learner(noise_dls(), tiny, weights=tmp_path/'half.safetensors')
    one = {k:v for k,v in net_weights.items() if k!='layer4.0.conv2.weight'}
    save_file(one, tmp_path/'one.safetensors')
    with refused('1 of', 'layer4.0.conv2.weight'): eye_learner(noise_dls(), tiny, weights=tmp_path/'one.safetensors')
    with refused('no weights at', "weights='none'"): eye_learner(noise_dls(), tiny, weights=tmp_path/'nowhere.npz')
    with refused('no weights at'): eye_learner(noise_dls(), tiny, weights=tmp_path)

def test_a_larger_net_of_the_family_is_another_net(tmp_path):
    "All tensors of a ResNet18 occur in a ResNet34, with the same shapes: half of that net is not a pretrained ResNet18"
    save_file(timm.create_model('resnet34').state_dict(), tmp_path/'r34.safetensors')
    with refused('r34.safetensors does not fit resnet18'): eye_learner(noise_dls(), 'resnet18', weights=tmp_path/'r34.safetensors')
    whole = timm.create_model('resnet18').state_dict()
    save_file(whole, tmp_path/'r18.safetensors')
    assert same(body_of(eye_learner(noise_dls(), 'resnet18', weights=tmp_path/'r18.safetensors')), whole)

@pytest.mark.parametrize('arch', ['test_convnext','test_efficientnet','test_vit','test_byobnet'])
def test_whole_files_of_other_families_fit(tmp_path, arch):
    "Their classifiers are named otherwise, and must not count as another net's"
    sd = timm.create_model(arch).state_dict()
    save_file({k:v.contiguous() for k,v in sd.items()}, tmp_path/'w.safetensors')
    body = body_of(eye_learner(noise_dls(find_net(arch).size), arch, weights=tmp_path/'w.safetensors'))
    assert same(body, sd)

def test_squeezenet_weights_of_torchvision(test_weights):
    "The very tensors of the file are in the body, and the body is torchvision's"
    f = test_weights/'squeezenet1_1-imagenet.npz'
    sd = dict(np.load(f))
    learn = eye_learner(noise_dls(64), 'squeezenet1_1', weights=f)
    want = {k:v for k,v in sd.items() if k.startswith('features.')}
    got = learn.model[0].state_dict()
    assert [v.shape for v in got.values()]==[v.shape for v in want.values()] and len(want)==len(sd)-2==50
    assert all(np.array_equal(a, b) for a,b in zip(got.values(), want.values()))
    net = torchvision.models.squeezenet1_1(weights=None)
    net.load_state_dict({k:torch.from_numpy(v) for k,v in sd.items()})
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode(): assert torch.equal(net.eval().features(x), learn.model.eval()[0](x))
    with refused('does not fit squeezenet1_0'): eye_learner(noise_dls(64), 'squeezenet1_0', weights=f)

def test_inception_v3(inception):
    learn,sd,loaded,hist = inception
    x,y = learn.dls.one_batch()
    assert x.shape==(2,3,299,299) and learn.config['normalize']==dict(mean=(.5,.5,.5), std=(.5,.5,.5))
    assert same(loaded, sd) and not any('Aux' in k for k in learn.model.state_dict())
    assert not same(body_of(learn), sd) and np.isfinite(hist.train_loss).all() and len(hist)==1
    with torch.inference_mode(): out = learn.model.eval()(x)
    assert isinstance(out, torch.Tensor) and out.shape==(2,2)
    p = learn.predict_frame(frame(3, side=64)).filter(like='p_')
    assert p.shape==(3,2) and np.allclose(p.sum(axis=1), 1)

# what follows from net and options

def stats_of(dls): return [(o.mean.flatten().tolist(), o.std.flatten().tolist()) for o in dls.after_batch.fs if isinstance(o, Normalize)]

@pytest.mark.parametrize('arch,mean,std', [(tiny,(.5,.5,.5),(.5,.5,.5)), ('resnet10t',(.485,.456,.406),(.229,.224,.225)),
                                           ('squeezenet1_1',(.485,.456,.406),(.229,.224,.225))])
def test_normalization_follows_the_net(tmp_path, arch, mean, std):
    learn = eye_learner(noise_dls(64), arch, weights=None)
    for dl in (learn.dls, learn.dls.valid):
        (m,s), = stats_of(dl)
        assert np.allclose(m, mean) and np.allclose(s, std)
    save_model(learn, tmp_path/'run')
    cfg = read_json(tmp_path/'run/config.json')['normalize']
    assert cfg==dict(mean=list(mean), std=list(std))
    assert np.allclose(stats_of(load_model(tmp_path/'run').dls), [(mean, std)])

def test_one_set_of_dataloaders_for_two_nets():
    "Either the second net gets its own normalization, or it is refused: what the config says is what the batch got"
    dls = noise_dls(64)
    eye_learner(dls, 'resnet10t', weights=None)
    try: learn = eye_learner(dls, tiny, weights=None)
    except EyeError: return
    (m,s), = stats_of(dls)
    assert np.allclose(m, learn.config['normalize']['mean']) and np.allclose(s, learn.config['normalize']['std'])

def test_other_dataloaders_are_normalized_as_the_first(tmp_path):
    "Another batch size or side, in training and of a loaded model: the net sees what it saw, and comes back from its files as it was"
    learn = eye_learner(noise_dls(64), tiny, weights=None)
    def answers(o): return [*o.predict_frame(frame(3)).p_A, *o.measured().values()]
    was = answers(learn)
    learn.dls = noise_dls(64)
    assert answers(learn)==pytest.approx(was) and np.allclose(stats_of(learn.dls.valid), [([.5]*3, [.5]*3)])
    again = load_model(save_model(learn, tmp_path/'run'))
    again.dls = noise_dls(64)
    assert answers(again)==pytest.approx(was)
    other = noise_dls(64)
    eye_learner(other, 'resnet10t', weights=None)
    with pytest.raises(DataError, match='normalized for another net'): learn.dls = other
    learn.dls.valid.after_batch.fs.pop()
    with refused('not normalized as'): save_model(learn, tmp_path/'run')

others = dict(names=(dict(classes='BC'), {}, 'answers category: A, B, and .* category: B, C'), fewer=(dict(classes='A'), {}, 'category: A:'),
              recipe=({}, dict(recipe='square'), 'as it is.*, and .*square'), image=({}, dict(image='fundus'), 'PILOct.*, and .*PILFundus'),
              number=({}, dict(output=NumberOutput(['age'])), 'answers category: A, B, and .* number: age'))

@pytest.mark.parametrize('how', others)
def test_other_dataloaders_do_not_rename_what_a_net_says(how, tmp_path):
    "Of other classes or pictures they are refused; the call that is named makes such as fit, of fewer classes and another size as well"
    classes,kwargs,why = others[how]
    learn = eye_learner(noise_dls(64), tiny, None)
    learn = learn if how=='recipe' else load_model(save_model(learn, tmp_path))
    df,was = frame(**classes),learn.dls
    if how=='number': df = df.assign(label=1.)
    with pytest.raises(DataError, match=why+'.*make them with eye_dls.df, output=learn.output, image=.oct., recipe=learn.opener.recipe, size=learn.size'):
        learn.dls = eye_dls(df, size=64, bs=4, workers=0, **kwargs)
    assert learn.dls is was and learn.output.names==['A','B']
    few = frame(classes='B')
    for size in (learn.size,32):
        learn.dls = eye_dls(few, output=learn.output, image='oct', recipe=learn.opener.recipe, size=size, bs=4, workers=0)
        assert list(learn.dls.vocab)==['A','B'] and learn.get_preds()[1].tolist()==[1]*4

def test_a_number_keeps_the_scale_that_it_was_taught(tmp_path):
    df = labeled('age')
    def dls(df): return eye_dls(df, output=NumberOutput.learn(df), image='fundus', size=32, bs=3, workers=0)
    learn = eye_learner(dls(df), tiny, None)
    was,scale = learn.predict_frame(df),learn.output.to_json()
    learn.dls = dls(df.assign(label=df.label+30))
    assert learn.predict_frame(df).equals(was) and learn.output.to_json()==scale
    assert load_model(save_model(learn, tmp_path, 'age')).predict_frame(df).equals(was)
    with pytest.raises(DataError, match="no column dx"): learn.predict_frame(df, label='dx')
    with pytest.raises(DataError, match='bs.* at least 1'): learn.predict_frame(df, bs=0)

def test_the_truth_beside_answers_of_labels_and_of_two_parts():
    "`label='label'` says: as the table has it; what is not there, or not known, is named"
    df = frame().assign(a=[0,1]*6, b=1, age=60.)
    learn = eye_learner(eye_dls(df, output=LabelsOutput(['a','b']), image='fundus', size=32, bs=3, workers=0), tiny, None)
    bare = df.drop(columns='label')
    for name in ('label','a'): assert learn.predict_frame(bare, label=name).target_a.tolist()==[0,1]*6
    for bad,why in ((bare.drop(columns='b'),'no column b'), (bare.assign(a=None),'12 of 12 images have no a, b: leave')):
        with pytest.raises(DataError, match=why): learn.predict_frame(bad, label='label')
    learn = eye_learner(eye_dls(df, output=BothOutput.learn(df), image='fundus', size=32, bs=3, workers=0), tiny, None)
    with pytest.raises(DataError, match='no column age'): learn.predict_frame(df.drop(columns='age'), label='label')

def test_a_net_of_your_own_goes_to_fastai():
    with pytest.raises(ModelError, match=r"this Sequential, goes into fastai's Learner"): eye_learner(noise_dls(), torch.nn.Sequential(torch.nn.Linear(2,2)), None)

def test_the_range_of_a_number_is_in_its_unit():
    df = labeled('age')
    learn = eye_learner(eye_dls(df, output=NumberOutput.learn(df), size=32, bs=3, workers=0), tiny, None, y_range=(20,90))
    with torch.no_grad(): learn.model[-1][-2].weight.mul_(1e6)
    got = learn.predict_frame(df).pred
    assert got.min()>=19.999 and got.max()<=90.001 and set(got.round())<={20,90}
    both = eye_dls(df.assign(label='a', age=df.label), output=BothOutput('ab'), size=32, bs=3, workers=0)
    with pytest.raises(DataError, match='y_range. would bound the scores of the classes'): eye_learner(both, tiny, None, y_range=(0,100))

def test_metrics_of_fastai_are_in_the_unit_of_the_quantity():
    "However they are given, and beside ours; the raw outputs stay what the loss reads"
    df = labeled('age')
    dls = eye_dls(df, output=NumberOutput.learn(df), size=32, bs=3, workers=0)
    learn = eye_learner(dls, tiny, None, metrics=[mae, rmse, R2Score(), mae_metric(dls.output.loss())])
    with pytest.raises(DataError, match='`metrics=auc` is a name'): learn.metrics = 'auc'
    with pytest.raises(DataError, match='`metrics=auc` is a name'): eye_learner(dls, tiny, None, metrics=[mae,'auc'])
    learn.metrics = [*learn.metrics, mae]
    with learn.no_bar(), learn.no_logging(): got,(p,y) = [*learn.validate()],learn.get_preds()
    p = p[:,0]
    off,ss = float((p-y).abs().mean()),float(((p-y)**2).sum())
    assert got[1:]==pytest.approx([off, (ss/len(y))**.5, 1-ss/float(((y-y.mean())**2).sum()), off, off], rel=1e-4) and off<60
    assert list(learn.metrics.attrgot('name'))==['mae','_rmse','r2_score','mae','mae'] and got[0]==pytest.approx(off/dls.output.spread, rel=1e-4)

def test_resnet50_from_scratch():
    learn = eye_learner(noise_dls(64, classes='ABCD'), weights=None)
    assert learn.config['arch']=='resnet50' and learn.config['weights']=='none'
    assert all(p.requires_grad for p in learn.model.parameters()), "a random body is not to be frozen"
    assert learn.predict_frame(frame(2)).filter(like='p_').shape==(2,4)

@pytest.mark.parametrize('arch', ['resnet5O','resnet10t.nonsense','',3,'../resnet10t'])
def test_unknown_net(arch):
    with pytest.raises(EyeError, match=f'unknown net {str(arch)!r}'): eye_learner(noise_dls(64), arch, weights=None)

@pytest.mark.parametrize('arch', [tiny,'squeezenet1_1'])
def test_an_option_that_nobody_knows_is_named(arch):
    with refused(f'neither eye_learner nor {arch} has an option `opt_fun`'): eye_learner(noise_dls(64), arch, None, opt_fun=print)

def test_rare_classes_weigh_more():
    df = frame(40, classes='AAAAAAAAAB')
    df.loc[df.split=='valid', 'label'] = 'B' # not to be counted
    n = df[df.split=='train'].label.value_counts()
    learn = make_learner(df, 'oct', TrainOptions(tiny, weights='none', size=32, bs=8, balance='loss', workers=0))
    w = learn.loss_func.func.weight
    assert np.isclose(float(w[1]/w[0]), n.A/n.B)
    with learn.no_bar(), learn.no_logging(): learn.fit_eye(one_cycle_plan(1, pretrained=False))
    plain = make_learner(df, 'oct', TrainOptions(tiny, weights='none', size=32, bs=8, workers=0))
    assert plain.loss_func.func.weight is None

def test_rare_classes_are_drawn_more_often():
    df = frame(60, classes='AAAAAAAAAB')
    def share(balance):
        dl = make_learner(df, 'oct', TrainOptions(tiny, weights='none', size=32, bs=8, balance=balance, workers=0)).dls.train
        dl.rng.seed(0); np.random.seed(0)
        return np.mean([y for _ in range(5) for b in dl for y in b[1].tolist()])
    assert share('none')<.2 and .35<share('sample')<.65

def test_resume_with_other_data_or_options_is_refused(tmp_path):
    def fit(resume, size=32, seed=1, info='split-a', **kwargs):
        learn = make_learner(frame(), 'oct', TrainOptions(tiny, weights='none', size=size, bs=4, workers=0))
        return fit_run(learn, tmp_path, TrainOptions(**{**dict(epochs=1, lr=1e-3, seed=seed), **kwargs}), resume=resume, info=dict(split=info, size=size))
    first = fit(False)
    pd.testing.assert_frame_equal(fit(True), first) # nothing was left to do
    before = (tmp_path/'checkpoints/last.safetensors').read_bytes()
    for bad,word in [(dict(info='split-b'),'split .split-a., this call has split-b'), (dict(size=64),'size .32., this call has 64:'), (dict(seed=2),'seed'), (dict(lr=2e-3),'plan'), (dict(epochs=3),'plan')]:
        with refused(f'another {word}', 'force=True'): fit(True, **bad)
    learn = make_learner(frame(), 'oct', TrainOptions('resnet10t', weights='none', size=32, bs=4, workers=0))
    with pytest.raises(ModelError): fit_run(learn, tmp_path, TrainOptions(epochs=1, lr=1e-3, seed=1), resume=True, info=dict(split='split-a', size=32))
    assert (tmp_path/'checkpoints/last.safetensors').read_bytes()==before, "a refused call changed the checkpoint"
    (tmp_path/'checkpoints/last.safetensors').write_bytes(before[:len(before)//2])
    with refused('last.safetensors', 'force=True'): fit(True)

def offer(hub, arch, b, deed='serve'):
    "Let `hub` have the file `b` under the address that the real hub has it; return the name"
    name = f'{timm.get_pretrained_cfg(arch).hf_hub_id}/model.safetensors'
    hub.files[name],hub.deeds[name] = b,deed
    return name

def test_hub_weights_end_in_the_body_and_are_cached(hub, worker, files, net_weights, tmp_path):
    name = offer(hub, tiny, (files/'w.safetensors').read_bytes(), 'drop once')
    r = worker('body', tiny, str(tmp_path/'a.npz'))
    assert r.get('weights')=='imagenet', r
    got = dict(np.load(tmp_path/'a.npz'))
    assert same(got, net_weights) and 'conv1.0.weight' in got
    assert hub.deeds[name]=='serve', "the connection was to drop once"
    n = len(hub.log)
    hub.stop()
    try:
        r = worker('body', tiny, str(tmp_path/'b.npz'))
        (kind,says,s), = worker('ask_all', ['test_vit2'])
    finally: hub.start()
    assert r.get('weights')=='imagenet', r
    assert same(dict(np.load(tmp_path/'b.npz')), net_weights) and len(hub.log)==n
    assert kind=='ModelError' and 'test_vit2' in says and 'weights=FILE' in says and "weights='none'" in says and s<10

@pytest.mark.parametrize('deed,arch', troubles.items())
def test_hub_in_trouble(answers, deed, arch):
    kind,says,seconds = answers()[deed]
    assert kind=='ModelError' and arch in says and '\n' not in says, (kind, says)
    assert 'weights=FILE' in says and "weights='none'" in says
    assert seconds<10

def test_hub_that_serves_garbage(hub, worker, tmp_path):
    "A page with status 200 lands in the cache under the name of the weights: the sentence helps to get rid of it"
    offer(hub, 'test_convnext2', b'<!DOCTYPE html><title>Sign in to the hospital network</title>')
    for _ in range(2):
        kind,says = worker('body', 'test_convnext2', str(tmp_path/'x.npz')).get('error', ['',''])
        assert kind=='ModelError' and 'cannot read weights' in says and '\n' not in says
        assert 'weights' in says and 'snapshots' in says, "neither flag nor the path of the bad file"

@pytest.fixture
def black_hole():
    "A port that swallows packets, as a firewall does"
    s,held = socket.socket(),[]
    s.bind(('127.0.0.1',0)); s.listen(0)
    for _ in range(4):
        held.append(socket.socket()); held[-1].setblocking(False); held[-1].connect_ex(s.getsockname())
    yield s.getsockname()
    for o in [s,*held]: o.close()

def move_hub(monkeypatch, url, cache):
    "Let this process believe that the hub is at `url`, with an empty cache"
    monkeypatch.setattr(hc, 'ENDPOINT', url)
    monkeypatch.setattr(hc, 'HUGGINGFACE_CO_URL_TEMPLATE', url+'/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(hc, 'HF_HUB_CACHE', str(cache))
    close_session()

def test_no_hub_within_ten_seconds(black_hole, monkeypatch, tmp_path):
    "A slow resolver, and several addresses behind a name (the real hub has eight), each waited for in turn"
    move_hub(monkeypatch, f'http://hub.test:{black_hole[1]}', tmp_path)
    def resolve(host, port, *args, **kwargs):
        time.sleep(2)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', black_hole)]*4
    monkeypatch.setattr(socket, 'getaddrinfo', resolve)
    t = time.time()
    with refused(tiny, 'hub.test', 'weights=FILE', "weights='none'"): find_weights('imagenet', find_net(tiny))
    assert time.time()-t<10

def test_a_closed_door_is_no_hub(monkeypatch, tmp_path):
    "Nobody listens at the port: said at once, and what to do instead"
    with socket.socket() as closed: closed.bind(('127.0.0.1',0)); port = closed.getsockname()[1]
    move_hub(monkeypatch, f'http://127.0.0.1:{port}', tmp_path)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    t = time.time()
    with refused(tiny, '127.0.0.1', 'weights=FILE', "weights='none'"): find_weights('imagenet', find_net(tiny))
    assert time.time()-t<10

def test_hub_behind_a_proxy(hub, files, monkeypatch, tmp_path):
    "Hospitals let nobody out but through a proxy: the hub is not to be called unreachable then"
    move_hub(monkeypatch, 'http://hub.invalid', tmp_path)
    offer(hub, 'test_efficientnet_gn', (files/'w.safetensors').read_bytes())
    net = find_net('test_efficientnet_gn')
    with refused('hub.invalid', "weights='none'"): find_weights('imagenet', net)
    close_session()
    monkeypatch.setenv('http_proxy', hub.url)
    assert Path(find_weights('imagenet', net)).read_bytes()==(files/'w.safetensors').read_bytes()
    assert any(p.startswith('http://hub.invalid/') for _,p in hub.log)
    close_session()

# torchvision's server

@pytest.fixture
def squeeze(hub, monkeypatch, tmp_path):
    "torchvision's SqueezeNet file on the stub; `squeeze(deed, body)` sets what happens"
    torch.manual_seed(2)
    net = torchvision.models.squeezenet1_1(weights=None)
    torch.save(net.state_dict(), tmp_path/'s.pth')
    name = f"models/squeezenet1_1-{sha256(tmp_path/'s.pth')[:8]}.pth"
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    monkeypatch.setattr(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.value, 'url', f'{hub.url}/{name}')
    def serve(deed='serve', body=None):
        hub.files[name],hub.deeds[name] = body or (tmp_path/'s.pth').read_bytes(),deed
        return net.state_dict()
    return serve

def test_torchvision_weights_end_in_the_body_and_are_cached(hub, squeeze):
    sd = squeeze()
    learn = eye_learner(noise_dls(64), 'squeezenet1_1')
    want = [v for k,v in sd.items() if k.startswith('features.')]
    assert len(want)==50 and all(map(torch.equal, learn.model[0].state_dict().values(), want))
    assert learn.config['weights']=='imagenet'
    hub.stop()
    try: again = eye_learner(noise_dls(64), 'squeezenet1_1')
    finally: hub.start()
    assert all(map(torch.equal, again.model[0].state_dict().values(), want))

@pytest.mark.parametrize('deed,body', [('missing',None), ('forbidden',None), ('broken',None), ('drop',None), ('drop once',None), ('serve',b'<!DOCTYPE html>')])
def test_torchvision_server_in_trouble(squeeze, tmp_path, deed, body):
    squeeze(deed, body)
    t = time.time()
    with refused('squeezenet1_1', 'weights=FILE', "weights='none'"): eye_learner(noise_dls(64), 'squeezenet1_1')
    assert time.time()-t<10
    assert not [o for o in (tmp_path/'torch').rglob('*') if o.is_file()], "half a file stayed behind"

def test_torchvision_server_out_of_reach(hub, squeeze):
    squeeze()
    hub.stop()
    try:
        with refused('squeezenet1_1', '127.0.0.1', 'weights=FILE', "weights='none'"): find_weights('imagenet', find_net('squeezenet1_1'))
    finally: hub.start()

# the real hub and torchvision's real server

def body_after(arch, seed):
    "The body of a learner made after `seed`: random weights would follow the seed, pretrained ones do not"
    set_seed(seed)
    learn = eye_learner(noise_dls(), arch)
    assert learn.config['weights']=='imagenet'
    return learn.model[0].state_dict()

@pytest.mark.net
@pytest.mark.parametrize('arch', ['resnet10t','inception_v3','squeezenet1_1'])
def test_imagenet_weights_come_from_the_net(arch):
    a,b = body_after(arch, 1),body_after(arch, 2)
    assert all(torch.equal(a[k], b[k]) for k in a)

# what cannot be trained

@pytest.mark.parametrize('arch,size', [('test_vit',160), ('test_vit3',160), ('test_resnet',160), ('test_nfnet',96), ('test_mambaout',160)])
def test_a_readout_learns_its_width_at_the_size_of_its_pictures(arch, size):
    learn = eye_learner(noise_dls(size), arch, weights=None, probe=True)
    assert len(learn.fit_probe())==1 and len(learn.predict_frame(frame(3)))==3
    with torch.no_grad(): assert learn.model[0].eval()(torch.rand(2,3,size,size)).shape==(2,learn.model[1][1].in_features)

def test_a_readout_of_a_net_that_cannot_read_small_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules['timm.models.inception_v3'], 'trunc_normal_', lambda *args, **kwargs: None) # slow, and not asked for here
    assert eye_learner(noise_dls(160), 'inception_v3', weights=None, probe=True).model[1][1].in_features>2000
    for probe in (None, True):
        with refused('inception_v3 cannot read pictures of 64 pixels', 'own `size` is 299'):
            eye_learner(noise_dls(64), 'inception_v3', weights=None, probe=probe)

@pytest.mark.parametrize('layout', [(1,24,7,7), (1,7,7,24), (1,49,24)])
def test_channels_are_found_in_every_layout(layout):
    from fundus_fastai.vision.probe import BlockFeatures
    class Block(torch.nn.Module):
        def __init__(self): super().__init__(); self.conv = torch.nn.Conv2d(3, 24, 1)
        def forward(self, x):
            y = self.conv(x)
            return y if len(layout)==4 and layout[1]==24 else y.permute(0,2,3,1).reshape(len(x),*layout[1:])
    b,x = Block(),torch.randn(2,3,7,7)
    got,want = BlockFeatures(torch.nn.Sequential(b), ['0'])(x),b.conv(x)
    assert torch.allclose(got[:,:24], want.mean((2,3)), atol=1e-5) and torch.allclose(got[:,24:], want.std((2,3), correction=0), atol=1e-5)

def test_shapes_that_do_not_fit_are_told_at_once():
    with refused('vit_tiny_patch16_224 cannot read pictures of 64 pixels', 'own `size` is 224'):
        eye_learner(noise_dls(64), 'vit_tiny_patch16_224', weights=None)
    with pytest.raises(EyeError, match='`n_in=1`'): eye_learner(noise_dls(), tiny, weights=None, n_in=1)
    one = eye_dls(frame(), size=32, bs=1, workers=0)
    with pytest.raises(EyeError, match='`bs=1`.*two images'): eye_learner(one, tiny, weights=None)
    assert len(eye_learner(one, tiny, weights=None, probe=True).fit_probe())==1 # a readout needs no batch

def untrained(): return eye_learner(noise_dls(), tiny, weights=None)

@pytest.mark.parametrize('lr', [1e4, 1e12, 1e30])
def test_diverged_training_stops_and_names_the_rate(lr, tmp_path):
    learn = untrained()
    plan = one_cycle_plan(4, lr=lr, pretrained=False)
    with learn.no_bar(), learn.no_logging(), refused('loss is not a number in epoch [12]', 'diverged', '`lr`'):
        learn.fit_eye(plan, out=tmp_path)
    assert len(learn.recorder.values)<=1, "it went on for epochs"

class Spoil(Callback):
    "Weights that are no numbers once an epoch's training is over"
    def before_validate(self):
        for p in self.model.parameters(): p.data.fill_(float('nan'))

def demanding(p, y):
    "As the AUC: it refuses scores that are no numbers"
    if torch.isnan(p).any(): raise DataError("leave these images out")
    return 0.

def test_training_that_diverges_in_its_last_step_does_not_blame_the_images(tmp_path):
    learn = untrained()
    learn.metrics = demanding
    learn.add_cb(Spoil())
    with learn.no_bar(), learn.no_logging(), refused('loss is not a number in epoch 1', 'diverged', '`lr`'):
        learn.fit_eye(one_cycle_plan(2, pretrained=False), out=tmp_path)

def test_training_does_not_warn_of_gradients(recwarn):
    "torch warned at the beginning of each training: a loss that has a gradient was made a number"
    learn = untrained()
    torch.set_warn_always(True) # it warns once a process
    try:
        with learn.no_bar(), learn.no_logging(): learn.fit_eye(one_cycle_plan(1, pretrained=False))
    finally: torch.set_warn_always(False)
    assert not [o for o in recwarn if 'requires_grad' in str(o.message)]

def test_a_plan_without_an_epoch_and_a_net_of_doubles():
    for plan in (one_cycle_plan(0, 0), []):
        with pytest.raises(EyeError, match='no epoch'): untrained().fit_eye(plan)
    learn = untrained()
    want = learn.predict_frame(frame(3)).p_A
    learn.model.double()
    assert np.allclose(learn.predict_frame(frame(3)).p_A, want, atol=1e-4)
    with refused('torch.float64', 'learn.model.float'): learn.fit_eye(one_cycle_plan(1, pretrained=False))

def test_losses_and_loaders_that_name_no_answer():
    with refused('has no `activation`'): eye_learner(noise_dls(), tiny, None, loss_func=torch.nn.CrossEntropyLoss())
    files = frame().assign(path=[Image.fromarray(o) for o in frame().path], age=40.)
    ages = DataBlock((ImageBlock,RegressionBlock), get_x=ColReader('path'), get_y=ColReader('age'), item_tfms=Resize(32))
    learn = eye_learner(ages.dataloaders(files, bs=2, num_workers=0), tiny, None)
    with refused('name no classes', 'NumberOutput'): learn.predict_frame(files)

def test_loaders_made_from_files_answer_lists_and_tables(tmp_path):
    "As they are mapped, so they are asked"
    df = frame()
    for i,o in enumerate(df.path): Image.fromarray(o).save(tmp_path/f'{i}.png')
    df['path'] = [str(tmp_path/f'{i}.png') for i in range(12)]
    block = DataBlock((ImageBlock,CategoryBlock), get_items=get_image_files, get_y=lambda p: 'ab'[int(p.stem)%2], item_tfms=Resize(32))
    learn = eye_learner(block.dataloaders(tmp_path, bs=2, num_workers=0), tiny, None)
    maps,want = learn.occlude(list(df.path), 16, 16),learn.predict_frame(list(df.path))
    assert np.allclose(maps.baseline.softmax(1), want[['p_a','p_b']], atol=1e-5) and len(want.p_a.round(6).unique())==12
    assert np.array_equal(learn.predict_frame(df)[['p_a','p_b']], want[['p_a','p_b']])
    assert torch.equal(learn.occlude(df, 16, 16).baseline, maps.baseline)
    with pytest.raises(DataError, match=r'answers category: a, b, and .* category: A, B: make them with eye_dls.df, output=learn.output., or'): learn.dls = noise_dls()

def test_a_rate_that_cannot_be_found():
    with pytest.raises(EyeError, match='`num_it=1`'): untrained().suggest_lr(1)
    learn = untrained()
    with torch.no_grad(): next(learn.model.parameters()).fill_(float('nan'))
    with refused('no rate', '20 batches', '`lr`'): learn.suggest_lr(20)

@pytest.mark.parametrize('error', [DataError('eye.png has more than 8 bits'), RuntimeError('CUDA out of memory')])
def test_what_breaks_while_a_rate_is_looked_for_is_told(error):
    class Breaks(Callback):
        def before_batch(self): raise error
    learn = untrained()
    learn.add_cb(Breaks())
    with pytest.raises(type(error), match=str(error)): learn.suggest_lr(20)

# precision

def half_learner(precision, **kwargs):
    return make_learner(frame(), 'oct', TrainOptions(tiny, weights='none', size=32, bs=4, workers=0, precision=precision, **kwargs))

def tensors(learn): return {k:v.clone() for k,v in learn.model.state_dict().items()}

class Seen(Callback):
    "What kind of numbers the first convolution gives, and how its weights lie, batch by batch"
    def before_fit(self):
        self.got,conv = set(),next(m for m in self.model.modules() if isinstance(m, torch.nn.Conv2d))
        def look(m, x, y): self.got.add((y.dtype, m.weight.dtype, m.weight.is_contiguous(memory_format=torch.channels_last)))
        self.hook = conv.register_forward_hook(look)
    def after_fit(self): self.hook.remove()

@pytest.mark.parametrize('precision,kind', [(None,torch.float32), ('full',torch.float32), ('mixed',torch.bfloat16)])
def test_precision_is_what_it_says_and_answers_are_exact(precision, kind, tmp_path):
    learn,seen = half_learner(precision),Seen()
    with learn.no_bar(), learn.no_logging(): learn.fit_eye(one_cycle_plan(1, pretrained=False), cbs=seen)
    assert seen.got=={(kind, torch.float32, True)}
    assert all(p.is_contiguous() for p in learn.model.parameters())
    save_model(learn, tmp_path, 'oct')
    again,df = load_model(tmp_path),frame()
    assert torch.equal(*(o.predict_batches(o.dls.test_dl(df, bs=4)) for o in (learn,again)))
    with learn.no_bar(), learn.no_logging():
        assert torch.equal(learn.get_preds(dl=learn.dls.test_dl(df, bs=4))[0], learn.predict_batches(learn.dls.test_dl(df, bs=4)))

@pytest.mark.parametrize('precision', ['full','mixed'])
def test_a_resumed_run_is_equal_to_the_byte_in_either_precision(precision, tmp_path):
    opts = TrainOptions(tiny, weights='none', epochs=2, lr=1e-3)
    class Stop(Callback):
        order = 99
        def before_epoch(self):
            if self.epoch==1: raise KeyboardInterrupt
    def fit(out, stop=False, resume=False, precision=precision):
        set_seed(7)
        learn = half_learner(precision)
        with learn.added_cbs([Stop()] if stop else []): fit_run(learn, out, opts, resume=resume, info=dict(precision=precision))
        return learn
    whole = tensors(fit(tmp_path/'a'))
    with pytest.raises(KeyboardInterrupt): fit(tmp_path/'b', stop=True)
    other = dict(full='mixed', mixed='full')[precision]
    with refused('another precision', precision, other): fit(tmp_path/'b', resume=True, precision=other)
    assert same(tensors(fit(tmp_path/'b', resume=True)), whole)

def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    "It says nothing of a precision"
    opts = TrainOptions(tiny, weights='none', epochs=1, lr=1e-3)
    first = fit_run(half_learner('full'), tmp_path, opts, info=dict(size=32))
    pd.testing.assert_frame_equal(fit_run(half_learner('full'), tmp_path, opts, resume=True, info=dict(size=32, precision='full')), first)

def test_ctrl_c_inside_a_batch_leaves_no_autocast_behind():
    learn = half_learner('mixed')
    class Stop(Callback):
        def after_pred(self): raise KeyboardInterrupt
    with learn.no_bar(), learn.no_logging(), pytest.raises(KeyboardInterrupt): learn.fit_eye(one_cycle_plan(1, pretrained=False), cbs=Stop())
    assert not torch.is_autocast_enabled('cpu') and (torch.ones(2,2)@torch.ones(2,2)).dtype==torch.float32 # for whatever else runs here
    df,dl = frame(),learn.dls.test_dl(frame(), bs=4)
    p = learn.predict_batches(dl)
    with learn.no_bar(): assert torch.equal(learn.get_preds(dl=dl)[0], p)
    with learn.no_bar(), learn.no_logging(): learn.fit_eye(one_cycle_plan(1, lr=1e-9, pretrained=False))
    assert not torch.is_autocast_enabled('cpu')
    assert p.dtype==torch.float32 and len(p)==len(df)

class Backward(TorchDispatchMode):
    "The kinds of numbers of the ways back through depthwise convolutions"
    def __init__(self):
        super().__init__()
        self.seen = []
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        if f is torch.ops.aten.convolution_backward.default and args[9]>1: self.seen.append(args[0].dtype)
        return f(*args, **(kwargs or {}))

def test_mixed_precision_goes_back_through_depthwise_convolutions_in_float32():
    "Where oneDNN has no fast kernel in bfloat16"
    learn = eye_learner(eye_dls(frame(), size=32, bs=4, workers=0, device='cpu'), 'tf_efficientnet_lite0', None, precision='mixed')
    depthwise = [m for m in learn.model.modules() if isinstance(m, torch.nn.Conv2d) and m.groups>1]
    with learn.no_bar(), learn.no_logging(), Backward() as seen: learn.fit_eye(one_cycle_plan(1, lr=1e-3, pretrained=False))
    assert {*seen.seen}=={torch.float32} and len(seen.seen)%len(depthwise)==0
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())

@pytest.mark.parametrize('kernel,stride,padding,dilation', [((3,3),1,1,1), ((3,3),2,1,1), ((5,3),1,(2,1),1), ((3,3),1,(0,2),(1,2)), ((3,3),1,3,1), ((5,5),(2,1),(2,0),1)])
def test_the_way_back_through_depthwise_convolutions_is_torchs(kernel, stride, padding, dilation):
    "Value and gradients of input, weights and bias as torch finds them in float32, but for the digits of bfloat16"
    torch.manual_seed(0)
    x,w,b = torch.randn(2, 6, 11, 10),torch.randn(6, 1, *kernel),torch.randn(6)
    x,w,b = (o.bfloat16().float().requires_grad_() for o in (x,w,b))
    want = torch.conv2d(x, w, b, stride, padding, dilation, 6)
    g = torch.randn_like(want).bfloat16()
    with Autocast(): got = torch.conv2d(x, w, b, stride, padding, dilation, 6)
    assert got.dtype==torch.bfloat16
    ways = (got, *torch.autograd.grad(got, (x,w,b), g)),(want, *torch.autograd.grad(want, (x,w,b), g.float()))
    for o,true in zip(*ways): assert (o.float()-true).norm()<.004*true.norm()
    with Autocast(): first,frozen = torch.conv2d(x.detach(), w, None, stride, padding, dilation, 6),torch.conv2d(x, w.detach(), None, stride, padding, dilation, 6)
    assert torch.equal(torch.autograd.grad(first, w, g)[0], ways[0][2]) and torch.equal(torch.autograd.grad(frozen, x, g)[0], ways[0][1])

@pytest.mark.parametrize('shape,out,kw,own', [((2,6,9,8),6,dict(groups=6),True), ((2,6,9,8),6,{},False), ((2,6,9,8),6,dict(groups=3),False), ((2,6,9,8),12,dict(groups=6),False),
                                              ((2,1,9,8),1,{},False), ((6,9,8),6,dict(groups=6),False), ((2,6,9,8),6,dict(groups=6, padding='same'),False)])
def test_no_other_convolution_takes_that_way(shape, out, kw, own):
    "Nor one that learns nothing, nor where the cast is switched off: all else is torch's, to the bit"
    x,w = torch.randn(shape),torch.randn(out, shape[-3]//kw.get('groups', 1), 3, 3, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16): want = torch.conv2d(x, w, **kw)
    with Autocast():
        got = torch.conv2d(x, w, **kw)
        with torch.no_grad(): still = torch.conv2d(x, w, **kw)
        with torch.autocast('cpu', enabled=False): plain = torch.conv2d(x, w, **kw)
    assert ('Depthwise' in got.grad_fn.name()) is own and torch.equal(got, want) and torch.equal(still, want)
    assert plain.dtype==torch.float32 and torch.equal(plain, torch.conv2d(x, w, **kw))

def test_precision_goes_by_the_device():
    assert [find_precision(o) for o in ('cuda','cpu','mps')]==['mixed','full','full'] and find_precision('cuda', 'full')==find_precision('mps', 'full')=='full'
    with pytest.raises(DataError, match="`precision='mixed'` is for CUDA and CPUs, not mps"): find_precision('mps', 'mixed')

@pytest.mark.parametrize('can,yes', [({},False), (dict(avx512_f=True, avx512_bf16=False),False), (dict(avx512_bf16=True),True), (dict(amx_bf16=True),True),
                                     (dict(architecture='aarch64', bf16=True),True)])
def test_bfloat16_is_seen_and_not_guessed(can, yes, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: can, raising=False)
    assert has_bf16() is yes
    find_precision('cpu', 'mixed')
    assert ('no bfloat16' in capsys.readouterr().err) is not yes

narrow_code = '''import torch, torch.nn as nn
from types import SimpleNamespace as S
from fundus_fastai.vision.learner import count_in
torch.set_num_threads(1)
for c in (3,4,8,12):
    net,cbs = nn.Sequential(nn.Conv2d(c, 64, 1, stride=2, bias=False)),[]
    count_in(S(dls=S(device='cpu'), model=net, add_cb=cbs.append))
    for o in cbs: net.to(memory_format=torch.channels_last)
    for _ in range(8): net(torch.randn(8, c, 128, 128)).sum().backward()
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_narrow_strided_net_does_not_take_python_with_it(capfd):
    "oneDNN writes past its memory there in channels-last: in another process, for it may die"
    p = multiprocessing.get_context('fork').Process(target=exec, args=(narrow_code, {}))
    p.start()
    p.join(120)
    assert p.exitcode==0 and 'channels-last' in (said := capfd.readouterr().err), (p.exitcode, said[-300:])
