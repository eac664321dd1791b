"""Layers <-> prompts and labels, with images so small that the numbers can be checked by eye."""

import numpy as np
import pytest

from napari_samscape.errors import InputError

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes

from napari_samscape.widgets.drawn import prompts_on
from napari_samscape.widgets.labels import Found, FreeIds, new_labels, write_objects
from napari_samscape.widgets.layers import (
    cut_matrix,
    levels,
    placed_like,
    plane_of,
    read_plane,
    to_layer,
    unsqueezed,
    world_matrix,
)
from napari_samscape.widgets.resample import footprint, resampled

SQUARE = np.array([[1, 1], [1, 3], [3, 3], [3, 1]], dtype=float)


def shown(*layers, **dims):
    """The Dims of a viewer that holds these layers."""
    viewer = ViewerModel()
    viewer.layers.extend(layers)
    for name, value in dims.items():
        setattr(viewer.dims, name, value)
    return viewer.dims


def points_layer(data, kinds=None, **kwargs):
    features = {"prompt": kinds} if kinds else None
    return Points(np.asarray(data, dtype=float), features=features, **kwargs)


# --- planes ---------------------------------------------------------------------------------------------


def test_a_2d_image_is_its_own_plane():
    image = Image(np.arange(12).reshape(3, 4))
    plane = plane_of(image, shown(image))
    assert (plane.axes, plane.shape, plane.factor, plane.offset) == ((0, 1), (3, 4), (1, 1), (0, 0))
    np.testing.assert_array_equal(read_plane(levels(image), plane), np.arange(12).reshape(3, 4))


def test_the_sliders_pick_the_plane_of_a_stack():
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    image = Image(data, scale=(1, 2.5, 1, 1), translate=(0, 10, 0, 0))
    dims = shown(image)
    dims.set_point((0, 1), (1, 15.0))
    plane = plane_of(image, dims)
    assert plane.position == (1, 2, 0, 0)
    np.testing.assert_array_equal(read_plane(levels(image), plane), data[1, 2])


def test_rolled_and_transposed_axes_give_the_plane_that_is_seen():
    data = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    image = Image(data)
    dims = shown(image, order=(1, 2, 0))
    dims.set_point(1, 2)
    plane = plane_of(image, dims)
    assert plane.axes == (0, 2)
    np.testing.assert_array_equal(read_plane(levels(image), plane), data[:, 2, :])


def test_colours_stay_together_and_do_not_count_as_an_axis():
    data = np.zeros((2, 8, 9, 3), dtype=np.uint8)
    data[1, ..., 2] = 200
    image = Image(data, rgb=True)
    dims = shown(image)
    dims.set_point(0, 1)
    plane = plane_of(image, dims)
    assert (plane.axes, plane.shape) == ((1, 2), (8, 9))
    np.testing.assert_array_equal(read_plane(levels(image), plane), data[1])
    assert new_labels(image, "objects").data.shape == (2, 8, 9)


def test_a_3d_view_is_refused_with_what_to_do():
    image = Image(np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match="switch the viewer to 2D"):
        plane_of(image, shown(image, ndisplay=3))


def test_a_view_along_an_axis_that_the_image_lacks_is_refused():
    flat, stack = Image(np.zeros((4, 5)), name="flat"), Image(np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match="axis that the layer 'flat' does not have"):
        plane_of(flat, shown(flat, stack, order=(1, 0, 2)))


def test_a_slider_outside_the_image_is_refused():
    short, long = Image(np.zeros((2, 4, 5)), name="short"), Image(np.zeros((9, 4, 5)))
    dims = shown(short, long)
    dims.set_point(0, 7)
    with pytest.raises(InputError, match="outside the layer 'short'"):
        plane_of(short, dims)


def test_lazy_data_are_read_one_plane_at_a_time():
    dask = pytest.importorskip("dask.array")
    read = []
    stack = dask.from_array(np.arange(60).reshape(3, 4, 5), chunks=(1, 4, 5))
    image = Image(stack.map_blocks(lambda block: read.append(block.shape) or block, dtype=int))
    dims = shown(image)
    dims.set_point(0, 2)
    read.clear()
    np.testing.assert_array_equal(
        read_plane(levels(image), plane_of(image, dims)), np.arange(40, 60).reshape(4, 5)
    )
    assert read == [(1, 4, 5)]


def test_a_large_pyramid_is_shown_at_the_coarsest_level_that_is_enough():
    finest = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (8192, 8192), (0, 0))
    image = Image([finest, np.zeros((4096, 4096)), np.zeros((1024, 1024)), np.zeros((256, 256))], name="big")
    plane = plane_of(image, shown(image))
    assert (plane.level, plane.step, plane.shape, plane.factor) == (2, 1, (1024, 1024), (8, 8))
    # The first coarse pixel covers data pixels 0 to 7, whose centre is 3.5.
    np.testing.assert_allclose(plane.to_data(np.array([[0.0, 1.0]])), [[3.5, 11.5]])
    np.testing.assert_allclose(plane.from_data(np.array([[3.5, 11.5]])), [[0, 1]])


def test_a_small_pyramid_is_shown_at_full_resolution():
    image = Image([np.zeros((512, 512)), np.zeros((256, 256))])
    assert plane_of(image, shown(image)).level == 0


def test_a_large_array_without_levels_is_read_with_a_stride():
    finest = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (6000, 9001), (0, 0))
    image = Image(finest, multiscale=False, contrast_limits=(0, 1))
    plane = plane_of(image, shown(image))
    assert (plane.step, plane.shape) == (3, (2000, 3001))
    assert read_plane(levels(image), plane).shape == plane.shape
    np.testing.assert_allclose(plane.to_data(np.array([[2.0, 1.0]])), [[6, 3]])


# --- prompts --------------------------------------------------------------------------------------------


def prompts(image, points=None, shapes=None, **dims):
    view = shown(image, **dims)
    return prompts_on(image, plane_of(image, view), view, points, shapes)


def test_no_prompt_is_none():
    image = Image(np.zeros((4, 4)))
    assert prompts(image) is None
    assert prompts(image, Points(ndim=2), Shapes(ndim=2)) is None


def test_points_carry_foreground_and_background():
    image = Image(np.zeros((4, 4)))
    found = prompts(image, points_layer([[1, 2], [3, 0]], ["foreground", "background"]))
    np.testing.assert_array_equal(found.points, [[1, 2], [3, 0]])
    np.testing.assert_array_equal(found.labels, [1, 0])


def test_points_without_the_feature_are_all_foreground():
    image = Image(np.zeros((4, 4)))
    np.testing.assert_array_equal(prompts(image, points_layer([[1, 2]])).labels, [1])


def test_points_go_through_world_coordinates():
    """A rotated, scaled, shifted image: world (10, 20) is its origin, and its rows run along world x."""
    image = Image(np.zeros((4, 4)), scale=(2, 2), rotate=90, translate=(10, 20))
    world = to_layer(np.array([[1.0, 3.0]]), image, Points(ndim=2), shown(image))
    np.testing.assert_allclose(world, [[10 - 6, 20 + 2]])
    np.testing.assert_allclose(prompts(image, points_layer(world)).points, [[1, 3]])


def test_points_placed_like_the_image_have_its_pixels_as_coordinates():
    image = Image(np.zeros((4, 4)), scale=(3, 0.5), rotate=30, affine=[[1, 0.2, 5], [0, 1, 1], [0, 0, 1]])
    points = points_layer([[2, 1]], **placed_like(image))
    np.testing.assert_allclose(world_matrix(points), world_matrix(image))
    np.testing.assert_allclose(prompts(image, points).points, [[2, 1]])


def test_prompts_belong_to_the_plane_they_were_placed_on():
    image = Image(np.zeros((3, 4, 4)))
    points = points_layer([[0, 1, 1], [2, 3, 3]])
    boxes = Shapes([np.insert(SQUARE, 0, 2, axis=1)], shape_type="rectangle")
    on_first, on_last = (prompts(image, points, boxes, point=(z, 0, 0)) for z in (0, 2))
    np.testing.assert_array_equal(on_first.points, [[1, 1]])
    assert on_first.box is None
    np.testing.assert_array_equal(on_last.points, [[3, 3]])
    np.testing.assert_array_equal(on_last.box, [1, 1, 3, 3])
    assert prompts(image, points, boxes, point=(1, 0, 0)) is None


def test_flat_prompts_lie_on_every_plane_of_a_stack():
    image = Image(np.zeros((3, 4, 4)))
    found = prompts(image, points_layer([[1, 2]]), point=(2, 0, 0))
    np.testing.assert_array_equal(found.points, [[1, 2]])


def test_the_newest_rectangle_is_the_box():
    image = Image(np.zeros((9, 9)))
    shapes = Shapes([SQUARE, SQUARE + 4], shape_type="rectangle")
    np.testing.assert_array_equal(prompts(image, shapes=shapes).box, [5, 5, 7, 7])


def test_a_rectangle_in_a_rotated_world_becomes_the_box_round_it():
    image = Image(np.zeros((9, 9)), rotate=45)
    box = prompts(image, shapes=Shapes([SQUARE], shape_type="rectangle")).box
    np.testing.assert_allclose(box[2:] - box[:2], [2 * 2**0.5, 2 * 2**0.5])


def test_a_polygon_is_a_mask_prompt():
    image = Image(np.zeros((5, 5)))
    mask = prompts(image, shapes=Shapes([SQUARE], shape_type="polygon")).mask
    assert mask.dtype == bool and mask.shape == (5, 5)
    assert mask[2, 2] and not mask[0].any() and not mask[4].any()


def test_an_outline_alone_brings_the_box_round_it():
    """The models know masks only beside other prompts."""
    image, outline = Image(np.zeros((5, 5))), Shapes([SQUARE], shape_type="polygon")
    alone = prompts(image, shapes=outline)
    np.testing.assert_array_equal(alone.box, [1, 1, 3, 3])
    with_a_click = prompts(image, points_layer([[2, 2]]), outline)
    assert with_a_click.box is None and with_a_click.mask is not None


def test_a_path_alone_brings_points_on_it():
    image = Image(np.zeros((20, 20)))
    found = prompts(image, shapes=Shapes([[[4, 3], [4, 15]]], shape_type="path"))
    np.testing.assert_allclose(found.points, [[4, 5], [4, 9], [4, 13]])
    assert found.labels.all() and found.box is None and found.mask[4, 9]


def test_an_ellipse_is_a_mask_prompt_without_its_corners():
    image = Image(np.zeros((21, 21)))
    corners = np.array([[0, 0], [0, 20], [20, 20], [20, 0]])
    mask = prompts(image, shapes=Shapes([corners], shape_type="ellipse")).mask
    assert mask[10, 10] and not mask[1, 1] and not mask[19, 19]
    assert mask.sum() == pytest.approx(np.pi * 100, rel=0.05)


def test_a_path_is_a_mask_prompt_as_wide_as_its_line():
    image = Image(np.zeros((9, 9)))
    mask = prompts(image, shapes=Shapes([[[4, 0], [4, 8]]], shape_type="path", edge_width=2)).mask
    np.testing.assert_array_equal(np.flatnonzero(mask[:, 4]), [3, 4, 5])
    assert mask[4].all()


def test_shapes_without_an_area_do_not_count():
    """napari shows them while they are being drawn."""
    image = Image(np.zeros((9, 9)))
    line = np.array([[2, 2], [2, 5], [2, 4]])
    assert prompts(image, shapes=Shapes([line], shape_type="polygon")) is None
    flat = np.array([[2, 2], [2, 5], [2, 5], [2, 2]])
    assert prompts(image, shapes=Shapes([flat], shape_type="rectangle")) is None


def test_a_shape_beside_the_picture_is_refused():
    image = Image(np.zeros((4, 4)))
    with pytest.raises(InputError, match="lies outside the picture"):
        prompts(image, shapes=Shapes([SQUARE + 50], shape_type="polygon"))


# --- labels ---------------------------------------------------------------------------------------------

OBJECT = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)


def write(labels, image, value=7, mask=OBJECT, over=False, **dims):
    view = shown(image, labels, **dims)
    (pixels,) = write_objects(labels, [Found(mask, image, plane_of(image, view), value)], view, over=over)
    return int(pixels.sum())


def test_an_object_is_written_and_taken_back_by_naparis_own_undo():
    image, labels = Image(np.zeros((4, 4))), Labels(np.zeros((4, 4), np.int32))
    assert write(labels, image) == 3
    np.testing.assert_array_equal(labels.data, OBJECT * 7)
    labels.undo()
    assert not labels.data.any()
    labels.redo()
    np.testing.assert_array_equal(labels.data, OBJECT * 7)


def test_other_objects_are_left_alone_unless_asked():
    image, labels = Image(np.zeros((4, 4))), Labels(np.zeros((4, 4), np.int32))
    labels.data[1] = 2
    assert write(labels, image, over=False) == 1
    np.testing.assert_array_equal(labels.data[1], [2, 2, 2, 2])
    assert write(labels, image, over=True) == 2
    np.testing.assert_array_equal(labels.data[1], [2, 7, 7, 2])


def test_only_the_plane_shown_is_written():
    image, labels = Image(np.zeros((3, 4, 4))), Labels(np.zeros((3, 4, 4), np.int32))
    write(labels, image, point=(1, 0, 0))
    np.testing.assert_array_equal(labels.data[1], OBJECT * 7)
    assert not labels.data[[0, 2]].any()


def test_a_plane_across_the_stack_is_written_across_the_stack():
    image, labels = Image(np.zeros((4, 2, 4))), Labels(np.zeros((4, 2, 4), np.int32))
    write(labels, image, order=(1, 0, 2), point=(0, 1, 0))
    np.testing.assert_array_equal(labels.data[:, 1], OBJECT * 7)
    assert not labels.data[:, 0].any()


def test_labels_that_lie_elsewhere_get_the_object_where_it_is_in_the_world():
    """Labels of twice the resolution, shifted by one image pixel."""
    image = Image(np.zeros((4, 4)), scale=(2, 2))
    labels = Labels(np.zeros((6, 6), np.int32), translate=(1.5, 1.5))
    write(labels, image)
    expected = np.kron(OBJECT[1:4, 1:4], np.ones((2, 2))) * 7
    np.testing.assert_array_equal(labels.data, expected)


def test_an_object_seen_at_a_coarse_level_is_written_at_full_resolution():
    matrix, shift = np.eye(2) / 4, np.full(2, -1.5 / 4)
    (y0, x0), (y1, x1) = where = footprint(OBJECT, matrix, shift, (16, 16))
    cut = resampled(OBJECT, matrix, shift, where)
    whole = np.zeros((16, 16), bool)
    whole[y0:y1, x0:x1] = cut
    np.testing.assert_array_equal(whole, np.kron(OBJECT, np.ones((4, 4), bool)))
    assert cut.size < whole.size


def test_data_on_disk_can_be_written_too(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(4, 4), dtype="int32", fill_value=0)
    image, labels = Image(np.zeros((4, 4))), Labels(array)
    write(labels, image)
    np.testing.assert_array_equal(np.asarray(array[:]), OBJECT * 7)
    labels.undo()
    assert not np.asarray(array[:]).any()


def test_a_cut_shown_on_its_own_lies_where_it_was_cut():
    image = Image(np.zeros((3, 8, 8)), scale=(5, 2, 2), rotate=(0, 0, 30), translate=(1, 2, 3))
    dims = shown(image)
    dims.set_point(0, 1 + 5)
    plane = plane_of(image, dims)
    cut = Labels(unsqueezed(np.ones((2, 3), np.uint8), plane), affine=cut_matrix(image, plane, (4, 1)))
    assert cut.data.shape == (1, 2, 3)
    np.testing.assert_allclose(cut.data_to_world((0, 1, 2)), image.data_to_world((plane.position[0], 5, 3)))
    thin = Labels(unsqueezed(np.ones((1, 2), np.uint8), plane), affine=cut_matrix(image, plane, (4, 1), 3))
    np.testing.assert_allclose(thin.data_to_world((0, 0, 1)), image.data_to_world((plane.position[0], 4, 4)))


def test_layers_may_measure_in_different_units():
    """The same place in micrometres and in nanometres; the viewer then counts in nanometres."""
    image = Image(np.zeros((3, 4, 4)), scale=(2, 1, 1), units=("um",) * 3)
    points = points_layer([[4000, 1000, 3000]], units=("nm",) * 3)
    labels = Labels(np.zeros((3, 4, 4), np.int32), scale=(2000, 1000, 1000), units=("nm",) * 3)
    dims = shown(image, points, labels)
    dims.set_point(0, 4000)
    plane = plane_of(image, dims)
    assert plane.position[0] == 2
    np.testing.assert_allclose(prompts_on(image, plane, dims, points, None).points, [[1, 3]])
    write_objects(labels, [Found(OBJECT, image, plane, 7)], dims, over=False)
    np.testing.assert_array_equal(labels.data[2], OBJECT * 7)


def test_labels_that_cannot_be_written_to_say_so():
    data = np.zeros((4, 4), np.int32)
    data.flags.writeable = False
    with pytest.raises(InputError, match="'fixed' cannot be written to: assignment destination is read-only"):
        write(Labels(data, name="fixed"), Image(np.zeros((4, 4))))


# --- ids ------------------------------------------------------------------------------------------------


def test_the_next_id_follows_the_highest_one():
    labels = Labels(np.array([[0, 3], [9, 0]]))
    assert FreeIds().next(labels) == 10


@pytest.mark.parametrize("small", [True, False])
def test_ids_painted_by_hand_are_counted(monkeypatch, small):
    monkeypatch.setattr("napari_samscape.widgets.labels.SMALL", 2**24 if small else 0)
    labels, free = Labels(np.zeros((4, 4), np.int32)), FreeIds()
    assert free.next(labels) == 1
    labels.paint((1, 1), 41)
    assert free.next(labels) == 42
    labels.data_setitem((np.array([0]), np.array([3])), 50)
    assert free.next(labels) == 51
    labels.data = np.full((4, 4), 5)
    assert free.next(labels) == 6


def test_a_large_layer_is_searched_once_only(monkeypatch):
    monkeypatch.setattr("napari_samscape.widgets.labels.SMALL", 0)
    searched = []
    monkeypatch.setattr("napari_samscape.widgets.labels._highest", lambda layer: searched.append(layer) or 3)
    labels, free = Labels(np.zeros((4, 4), np.int32)), FreeIds()
    assert [free.next(labels), free.next(labels)] == [4, 4]
    assert len(searched) == 1


def test_the_highest_id_is_found_piece_by_piece(monkeypatch, tmp_path):
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr("napari_samscape.widgets.labels.SMALL", 10)
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(9, 4), dtype="int32", fill_value=0)
    array[5, 2] = 33
    assert FreeIds().next(Labels(array)) == 34


def test_a_data_type_without_room_says_so():
    labels = Labels(np.full((2, 2), 255, np.uint8), name="cells")
    with pytest.raises(InputError, match="'cells' is full: its data type, uint8, has no id 256"):
        FreeIds().next(labels)
