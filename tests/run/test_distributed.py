"Two processes, by gloo on the CPU: they learn what one learns with twice the batch, and neither outlives the other"
import os, signal, socket, sys, time, traceback
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
import torch.distributed as dist
from fundus_fastai.cli import main
from fundus_fastai.core import read_json, say
from fundus_fastai.options import TrainOptions
from fundus_fastai.run import distributed
from fundus_fastai.run.distributed import Together
from fundus_fastai.vision import data, learner, steps
from fundus_fastai.vision.learner import EyeLearner, KeepNorm

# Before any test: torch.export feigns a CUDA, for which the first backward after it begins threads, and no fork could learn
torch.ones(1, requires_grad=True).backward()

WORDS = ['train','oct','--arch','test_resnet','--weights','none','--size','32','--epochs','2','--lr','1e-3','--patients','18','--maps','0','--seed','1',
         '--workers','0']

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def fork(rank, port, err, f):
    "A process that calls `f` as one of two that a launcher has started; its number"
    if pid := os.fork(): return pid
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                       MASTER_PORT=str(port), GLOO_SOCKET_IFNAME='lo', ACCELERATE_USE_CPU='true')
    status = 99
    try:
        sys.stderr = sys.__stderr__ = open(err, 'w', buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
        torch.set_num_threads(1)
        status = f()
    except BaseException: traceback.print_exc()
    finally: os._exit(status)

def two(tmp, f):
    "Both processes, begun"
    port = free_port()
    return [fork(k, port, tmp/f'err{k}', f) for k in (0,1)]

def ended(pids, seconds):
    "The exit status of each, negative for a signal; none of them lives on"
    t0,res = time.time(),{}
    while len(res)<len(pids) and time.time()-t0<seconds:
        for p in set(pids)-set(res):
            got,status = os.waitpid(p, os.WNOHANG)
            if got: res[p] = os.waitstatus_to_exitcode(status)
        time.sleep(.05)
    for p in set(pids)-set(res):
        os.kill(p, signal.SIGKILL)
        os.waitpid(p, 0)
    return [res.get(p, 'had to be killed') for p in pids]

def train(out, bs, *more): return main([*map(str, [*WORDS, '--bs', bs, '--out', out, *more])])

def losses(run): return pd.read_csv(run/'history.csv')[['train_loss','valid_loss','accuracy']]

def told(f):
    "`f`, which writes, and says so whoever listens"
    def call(*args):
        print('writes', file=sys.__stderr__)
        return f(*args)
    return call

@pytest.fixture(scope='module')
def plain():
    """Without augmentation and dropout, which draw by process, with batch normalization as in tuning from a readout;
    and without what the first process does once the net is trained"""
    made = steps.eye_learner
    def still(*args, **kwargs):
        learn = made(*args, **kwargs, ps=0.)
        learn.add_cb(KeepNorm())
        return learn
    with pytest.MonkeyPatch.context() as m:
        m.setattr(data, 'eye_tfms', lambda *args: [])
        m.setattr(steps, 'eye_learner', still)
        m.setattr('fundus_fastai.run.train.measure_shortcuts', lambda *args: None)
        m.setattr('fundus_fastai.run.train.publish_run', lambda *args, **kwargs: None)
        for where,name in [(learner,'save_tensors'), (steps,'_keep')]: m.setattr(where, name, told(getattr(where, name)))
        m.setattr(EyeLearner, 'suggest_lr', lambda *args: say('looking for a rate') or 1e-3)
        yield

@pytest.fixture(scope='module')
def one(plain, tmp_path_factory):
    "One process with batches of eight"
    assert train(run := tmp_path_factory.mktemp('one')/'run', 8)==0
    return run

def check_same(one, two):
    "The same losses, and each validation image counts once; the second process wrote nothing and said nothing"
    assert np.allclose(losses(one), losses(two), rtol=0, atol=1e-4) and len(losses(one))>=2
    p,q = [pd.read_csv(o/'validation.csv') for o in (one,two)]
    assert p.path.equals(q.path) and np.allclose(p.filter(like='p_'), q.filter(like='p_'), atol=1e-3)
    assert read_json(two/'config.json')['training']['processes']==2
    assert 'epoch 2' in (two.parent/'err0').read_text() and not (two.parent/'err1').read_text()
    return p

@pytest.mark.newest
def test_two_processes_learn_what_one_does(tmp_path, one):
    assert ended(two(tmp_path, lambda: train(tmp_path/'two', 4)), 60)==[0,0], (tmp_path/'err1').read_text()
    assert len(check_same(one, tmp_path/'two'))%2 # a copy fills the last batch

def test_a_readout_and_a_rate_are_asked_of_the_first(tmp_path, plain):
    "And tuning goes on from there together"
    more = ['--fit','auto','--lr','find']
    assert train(tmp_path/'one', 8, *more)==0
    assert ended(two(tmp_path, lambda: train(tmp_path/'two', 4, *more)), 60)==[0,0], (tmp_path/'err1').read_text()
    check_same(tmp_path/'one', tmp_path/'two')
    assert (tmp_path/'err0').read_text().count('looking for a rate')==1
    assert read_json(tmp_path/'two'/'config.json')['training']['kept']['kept'] in ('readout','tuned')

@pytest.mark.parametrize('dies', [0,1])
def test_a_killed_process_ends_the_other_and_the_run_goes_on(tmp_path, one, monkeypatch, dies):
    "The other one says so at once; what is left is gone on with, here by one process with the batch of two"
    class Killed(Together):
        def before_batch(self):
            if self.epoch==1 and self.iter==2 and self.crew.rank==dies: os.kill(os.getpid(), signal.SIGKILL)
    with monkeypatch.context() as m:
        m.setattr(distributed, 'Together', Killed)
        status = ended(two(tmp_path, lambda: train(tmp_path/'two', 4)), 30)
    assert status[dies]==-signal.SIGKILL and status[1-dies]==1
    assert f'process {2-dies} of 2 ends: another one has ended' in (tmp_path/f'err{1-dies}').read_text()
    assert train(tmp_path/'two', 8, '--resume')==0
    assert np.allclose(losses(one), losses(tmp_path/'two'), rtol=0, atol=1e-4)

def test_who_waits_hears_that_it_is_to_end(tmp_path):
    "Within a call that does not come back to Python"
    port = free_port()
    def wait():
        with distributed.lost_at_once(SimpleNamespace(rank=0, size=2)):
            (tmp_path/'in').touch()
            dist.TCPStore('127.0.0.1', port, is_master=True, wait_for_workers=False).wait(['what never comes'])
    pid = fork(0, port, tmp_path/'err', wait)
    while not (tmp_path/'in').exists(): time.sleep(.02)
    time.sleep(.3)
    os.kill(pid, signal.SIGTERM)
    assert ended([pid], 10)==[143] and 'process 1 of 2 ends' in (tmp_path/'err').read_text()

@pytest.mark.parametrize('bs,more,says', [(400, [], 'no batch for 2 processes'), (4, ['--maps-trained'], '--maps-trained is for one process')])
def test_an_error_is_told_once(tmp_path, bs, more, says):
    "By the first process; the others end as well"
    assert ended(two(tmp_path, lambda: train(tmp_path/'two', bs, *more)), 60)==[1,0]
    assert says in (tmp_path/'err0').read_text() and not (tmp_path/'err1').read_text()

@pytest.mark.parametrize('cached', [False, True])
def test_the_first_decides_about_the_cache(cached, monkeypatch):
    "Each would time its own reading, and one might decode what the other opens"
    crew,said = object.__new__(distributed.Crew),[]
    crew.rank,crew.size = 0,2
    monkeypatch.setattr(distributed.Crew, 'told', lambda self, word=None: said.append(word))
    monkeypatch.setattr(distributed.Crew, 'fit', lambda self, learn, out, opts, **kw: opts)
    learn = SimpleNamespace(frame=pd.DataFrame(dict(split=['train']*9)), dls=SimpleNamespace(train=SimpleNamespace(cache='a cache' if cached else None)))
    assert crew.lead(learn, 'out', TrainOptions('test_resnet', bs=2)).cache is None and said[0][2].cache is cached

def test_only_training_is_shared(monkeypatch, capsys):
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert main(['predict','run','scan.png'])==1 and '--shard' in capsys.readouterr().err

def test_without_accelerate_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert train(tmp_path/'two', 4)==1 and not (tmp_path/'two').exists()
