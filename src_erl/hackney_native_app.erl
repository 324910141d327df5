%% @private The application: without it started the library works as well; with it, `application:stop/1' ends every stream.
-module(hackney_native_app).

-behaviour(application).

-export([start/2, stop/1]).

%% Milliseconds that streams get to say goodbye when the application stops.
-define(STOP_PATIENCE, 500).

%% @private
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    library(),
    drop_in(),
    hackney_native_sup:start_link().

%% @private
-spec stop(term()) -> ok.
stop(_State) ->
    _ = hackney_native_nif:shutdown(?STOP_PATIENCE),
    ok.

%% A node must not stop for want of a library that it may never use; every call says what is wrong, and so does the log, once.
library() ->
    case hackney_native_nif:status() of
        ok -> ok;
        {error, {nif_not_loaded, Text}} -> logger:warning("~ts", [Text])
    end.

%% A node must not stop for want of it: hackney's own streams go on to work.
drop_in() ->
    case application:get_env(hackney_native, drop_in, false) of
        true ->
            case hackney_native:install_drop_in() of
                ok -> ok;
                {error, Reason} -> logger:warning("hackney_native: the drop-in was not installed: ~tp", [Reason])
            end;
        _ ->
            ok
    end.
