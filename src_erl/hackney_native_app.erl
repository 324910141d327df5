%% @private The application: without it started the library works as well; with it, `application:stop/1' ends every stream.
-module(hackney_native_app).

-behaviour(application).

-export([start/2, stop/1]).

%% Milliseconds that streams get to say goodbye when the application stops.
-define(STOP_PATIENCE, 500).

%% @private
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case drop_in() of
        ok -> hackney_native_sup:start_link();
        {error, _} = Error -> Error
    end.

%% @private
-spec stop(term()) -> ok.
stop(_State) ->
    _ = hackney_native_nif:shutdown(?STOP_PATIENCE),
    ok.

drop_in() ->
    case application:get_env(hackney_native, drop_in, false) of
        true -> hackney_native:install_drop_in();
        _ -> ok
    end.
