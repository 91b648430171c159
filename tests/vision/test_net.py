"What only the real hub can tell: run weekly, with --flags net"
import pytest, torch
from fastai.torch_core import set_seed
from vision.test_learner import noise_dls
from fundus_fastai.vision.learner import eye_learner

def body(arch, seed):
    "The body of a learner made after `seed`: random weights would follow the seed, pretrained ones do not"
    set_seed(seed)
    learn = eye_learner(noise_dls(), arch)
    assert learn.eye['weights']=='imagenet'
    return learn.model[0].state_dict()

@pytest.mark.net
@pytest.mark.parametrize('arch', ['resnet10t','inception_v3','squeezenet1_1'])
def test_imagenet_weights_come_from_the_net(arch):
    a,b = body(arch, 1),body(arch, 2)
    assert all(torch.equal(a[k], b[k]) for k in a)
